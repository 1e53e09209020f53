"""The wire: events in structured mode are read strictly where we use them (FB1)."""

import json
from base64 import b64encode
from typing import Any

import pytest

from schemas.errors import MessageRejected, Violation
from schemas.wire import decode
from tests.kit.schemas.wire_records import STRUCTURED, refusal, structured


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        ({"data": {"b": 1, "a": [True, None]}}, {"b": 1, "a": [True, None]}),
        ({"data": "text"}, "text"),
        ({"data": False}, False),
        ({"data": {"n": 10**30}}, {"n": 10**30}),
        ({"data_base64": b64encode(b'{"a":1}').decode()}, {"a": 1}),
    ],
)
def test_structured_data_is_the_payload(data: dict[str, Any], payload: Any) -> None:
    envelope = decode(b"k", structured(**data), STRUCTURED)
    assert json.loads(envelope.payload or b"") == payload


@pytest.mark.parametrize("nothing", [b"", b', "data": null', b', "data_base64": null'])
def test_a_structured_event_without_data_is_a_tombstone(nothing: bytes) -> None:
    event = structured().replace(b'"1.0"', b'"1.0"' + nothing)
    assert decode(b"k", event, STRUCTURED).payload is None


@pytest.mark.parametrize("data", ["not base64!", "A", "é", "\u0100", 7, True, ["QQ=="], {}])
def test_data_base64_is_base64_or_refused(data: Any) -> None:
    event = structured(data_base64=data)
    assert refusal(STRUCTURED, value=event) == Violation("data_base64", "must be base64")


def test_trace_headers_beside_a_structured_event_count() -> None:
    envelope = decode(b"k", structured(), [*STRUCTURED, ("correlationid", b"c-1")])
    assert envelope.correlation_id == "c-1"


@pytest.mark.parametrize("value", [b"[]", b"1", b'"x"', b"null"])
def test_a_structured_event_is_an_object(value: bytes) -> None:
    assert refusal(STRUCTURED, value=value) == Violation("body", "must be a JSON object")


def test_a_structured_event_has_a_value() -> None:
    assert refusal(STRUCTURED, value=None).field == "value"


def test_a_structured_event_is_json_as_at_every_door() -> None:
    assert refusal(STRUCTURED, value=b'{"id": "1", "id": "2"}').field == "id"
    with pytest.raises(MessageRejected, match="too-large"):
        decode(b"k", b"{}".ljust(1 << 21), STRUCTURED)


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_a_structured_event_lacks_nothing(name: str) -> None:
    assert refusal(STRUCTURED, value=structured(**{name: None})).field == name
    assert refusal(STRUCTURED, value=structured(**{name: ""})).field == name
    assert refusal(STRUCTURED, value=structured(**{name: ["1"]})).field == name


@pytest.mark.parametrize(
    "name", ["specversion", "id", "source", "type", "subject", "time", "datacontenttype"]
)
@pytest.mark.parametrize("value", [7, True, 1.5, ["k"], {"k": 1}])
def test_an_attribute_that_is_used_is_text_in_structured_mode(name: str, value: Any) -> None:
    """FB1: to take another subject, or no content type, because this one is odd, is to guess."""
    event = structured(**{name: value})
    assert refusal(STRUCTURED, value=event) == Violation(name, "must be text")


@pytest.mark.parametrize(
    "content_type",
    ["application/CloudEvents+JSON", "application/cloudevents+json;charset=utf-8"],
)
def test_structured_mode_is_known_in_any_case_and_with_parameters(content_type: str) -> None:
    assert decode(b"k", structured(), [("Content-Type", content_type.encode())]).id == "1"


@pytest.mark.parametrize("data", [{"data": "<a/>"}, {"data_base64": "PGEvPg=="}])
def test_structured_data_of_another_format_is_named(data: dict[str, str]) -> None:
    event = structured(datacontenttype="application/xml", **data)
    assert refusal(STRUCTURED, value=event).field == "datacontenttype"
