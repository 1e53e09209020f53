"""The wire and the CloudEvents SDK for Python: each reads what the other one writes."""

import json
from datetime import UTC
from typing import Any

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import Envelope
from schemas.extensions import Extensions
from schemas.wire import decode, encode
from tests.kit.schemas.wire_records import FULL, NAMES_OF_OTHERS, NOON, OURS, PRINTABLE


def test_the_sdk_reads_our_records() -> None:
    key, value, headers = encode(FULL)
    assert value is not None
    event = kafka.from_kafka_event(kafka.KafkaMessage(dict(headers), key, value))
    assert event.get_attributes() == {
        "specversion": "1.0",
        "id": FULL.id,
        "source": FULL.source,
        "type": FULL.type,
        "subject": FULL.key,
        "time": FULL.time,
        "datacontenttype": "application/json",
        "sequence": "00000000000000000007",
        "partitionkey": FULL.key,
    }
    assert event.get_data() == {"item_id": "JFK"}


def sdk_event(data: dict[str, Any] | bytes, **more: Any) -> CloudEvent:
    attributes = {"id": "1", "source": "/sdk", "type": "test.done.v1", "time": NOON}
    return CloudEvent(
        {**attributes, "subject": "k", "datacontenttype": "application/json", **more}, data
    )


def received(message: kafka.KafkaMessage) -> Envelope:
    key = message.key.encode() if isinstance(message.key, str) else message.key
    return decode(key, message.value, message.headers.items())


@pytest.mark.parametrize("to_message", [kafka.to_binary_event, kafka.to_structured_event])
@pytest.mark.parametrize("more", [{}, {"partitionkey": "k"}])
def test_we_read_the_records_of_the_sdk(to_message: Any, more: dict[str, str]) -> None:
    event = sdk_event({"a": "é", "b": [1, 2.5, None]}, sequence="00000000000000000007", **more)
    envelope = received(to_message(event))
    assert json.loads(envelope.payload or b"") == {"a": "é", "b": [1, 2.5, None]}
    assert envelope == Envelope(
        id="1",
        source="/sdk",
        type="test.done.v1",
        key="k",
        payload=envelope.payload,
        time=NOON,
        sequence=7,
        extensions=Extensions(more),
    )


def test_we_read_bytes_that_the_sdk_wraps_in_base64() -> None:
    message = kafka.to_structured_event(sdk_event(b"\x00\xff"))
    assert b"data_base64" in message.value
    assert received(message).payload == b"\x00\xff"


SDK_TEXT = st.text(PRINTABLE, min_size=1, max_size=60)
SDK_NAMES = NAMES_OF_OTHERS.filter(lambda name: name not in {"datacontenttype", "dataschema"})
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | SDK_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SDK_TEXT, inner, max_size=3),
    max_leaves=6,
)


CONTENT_TYPES = ["application/json", "application/json; charset=utf-8", "application/x.y+json"]


@given(
    attributes=st.fixed_dictionaries(
        {"id": SDK_TEXT, "source": SDK_TEXT, "type": SDK_TEXT, "subject": SDK_TEXT},
        optional={
            "time": st.datetimes(timezones=st.just(UTC)),
            "datacontenttype": st.sampled_from(CONTENT_TYPES),
            "dataschema": st.just("https://example.org/schema"),
            "partitionkey": SDK_TEXT,
            "sequence": st.sampled_from(["A-7", "7", "00012"]),
            "traceparent": st.sampled_from([OURS, "broken"]),
        },
    ),
    extensions=st.dictionaries(SDK_NAMES, SDK_TEXT | st.just("x" * 3_000), max_size=3),
    data=st.dictionaries(SDK_TEXT, JSON_VALUES, max_size=3),
)
@pytest.mark.parametrize("to_message", [kafka.to_binary_event, kafka.to_structured_event])
def test_what_the_sdk_takes_for_valid_is_the_same_event_to_us(
    to_message: Any, attributes: dict[str, Any], extensions: dict[str, str], data: dict[str, Any]
) -> None:
    message = to_message(CloudEvent({**extensions, **attributes}, data))
    theirs = kafka.from_kafka_event(message)
    ours = received(message)
    assert (ours.id, ours.source, ours.type) == (
        theirs.get_id(),
        theirs.get_source(),
        theirs.get_type(),
    )
    assert ours.key == theirs.get_subject()
    assert ours.time == theirs.get_time()
    assert json.loads(ours.payload or b"") == data
