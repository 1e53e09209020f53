"""The wire: attributes that we use are read strictly, others as they come (FB1).

FA9: extensions travel.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MessageRejected, Violation
from schemas.extensions import NO_EXTENSIONS, Extensions
from schemas.limits import ATTRIBUTE_BYTES
from schemas.wire import Headers, decode
from tests.kit.schemas.wire_records import OURS, STRUCTURED, THEIRS, binary, refusal, structured


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_a_missing_or_empty_attribute_is_refused(name: str) -> None:
    assert refusal(binary(**{f"ce_{name}": None})).field == name
    assert refusal(binary(**{f"ce_{name}": b""})).field == name


def test_another_specversion_is_refused() -> None:
    assert refusal(binary(ce_specversion=b"0.3")) == Violation("specversion", "must be 1.0")


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "subject", "time"])
def test_an_attribute_that_is_used_is_said_once_or_twice_the_same(name: str) -> None:
    said = dict(binary(ce_subject=b"k", ce_time=b"2026-01-02T12:00:00Z"))[f"ce_{name}"]
    headers = binary(ce_subject=b"k", ce_time=b"2026-01-02T12:00:00Z")
    assert decode(b"k", b"{}", [*headers, (f"ce_{name}", said)]) == decode(b"k", b"{}", headers)
    violation = refusal([*headers, (f"ce_{name}", b"another")])
    assert violation == Violation(name, "may appear only once")


CANNOT_BE_SHOWN = [
    (b"\xff", "must be UTF-8"),
    (b"\xed\xa0\x80", "must be UTF-8"),
    (b"a\nb", "must not contain control characters"),
    (b"a\x00b", "must not contain control characters"),
    (b"\x1b[31m", "must not contain control characters"),
    ("a\u2028b".encode(), "must not contain control characters"),
    (b"x" * (ATTRIBUTE_BYTES + 1), "must have a value of at most 1024 bytes"),
]


@pytest.mark.parametrize("name", ["id", "source", "type", "subject", "time"])
@pytest.mark.parametrize(("raw", "rule"), CANNOT_BE_SHOWN)
def test_an_attribute_that_is_used_and_cannot_be_shown_is_refused(
    name: str, raw: bytes, rule: str
) -> None:
    assert refusal(binary(**{f"ce_{name}": raw})) == Violation(name, rule)


@pytest.mark.parametrize("name", ["ce_other", "correlationid", "causationid", "traceparent"])
@pytest.mark.parametrize("raw", [None, *(raw for raw, _ in CANNOT_BE_SHOWN), b"x" * 3_000])
def test_what_only_goes_with_a_message_is_dropped_where_it_cannot_be_shown(
    name: str, raw: Any
) -> None:
    assert decode(b"k", b"{}", [*binary(), (name, raw)]) == decode(b"k", b"{}", binary())


@pytest.mark.parametrize("name", ["ce_other", "ce_o-t", "ce_", "position", "term", "ce_sequence"])
def test_what_is_not_used_may_come_twice(name: str) -> None:
    twice = decode(b"k", b"{}", [*binary(), (name, b"one"), (name, b"other")])
    assert twice.sequence is twice.position is twice.term is None
    assert (twice.id, twice.payload) == ("1", b"{}")


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ([OURS, THEIRS], OURS),  # instrumentation adds its own behind ours
        ([OURS, OURS], OURS),
        (["broken", THEIRS, OURS], THEIRS),
        ([OURS, "broken"], OURS),
        (["broken"], None),
        (["00-" + "0" * 32 + "-b7ad6b7169203331-01"], None),
        (["ff" + OURS[2:]], None),
        ([OURS.upper()], None),
        (["cc" + OURS[2:] + "-more"], "cc" + OURS[2:] + "-more"),
        ([OURS + "-more"], None),  # version 00 has nothing behind its flags
    ],
)
def test_the_first_good_trace_context_counts(said: list[str], counts: str | None) -> None:
    headers = [*binary(), *(("traceparent", text.encode()) for text in said)]
    assert decode(b"k", b"{}", headers).traceparent == counts


@pytest.mark.parametrize("name", ["ce_ID", "CE_ID", "Ce_Id"])
def test_a_name_with_capitals_counts_where_the_proper_one_is_absent(name: str) -> None:
    assert decode(b"k", b"{}", [*binary(ce_id=None), (name, b"9")]).id == "9"
    assert decode(b"k", b"{}", [(name, b"9"), *binary()]).id == "1"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json", "Application/JSON", "application/json; charset=UTF-8", "text/json",
        "application/vnd.test+json", "application/problem+JSON ; a=b", "", None,
    ],
)  # fmt: skip
def test_a_payload_in_binary_mode_is_json_under_any_of_its_names(content_type: str | None) -> None:
    headers = binary(**{"content-type": None if content_type is None else content_type.encode()})
    assert decode(b"k", b"{}", headers).payload == b"{}"


def test_a_content_type_that_is_said_again_in_other_words_is_the_same() -> None:
    """FB1: the case and the parameters of a media type are not used; another type is another."""
    headers = [*binary(**{"content-type": b"application/json"})]
    for name, again in (
        ("content-type", b"Application/JSON"),
        ("ce_datacontenttype", b"application/json; charset=utf-8"),
    ):
        assert decode(b"k", b"{}", [*headers, (name, again)]).id == "1"
    violation = refusal([*headers, ("ce_datacontenttype", b"text/json")])
    assert violation == Violation("content-type", "may appear only once")


@pytest.mark.parametrize(
    ("content_type", "what"),
    [
        ("application/cloudevents-batch+json", "is a batch of events"),
        ("application/CloudEvents-Batch+avro", "is a batch of events"),
        ("application/cloudevents+avro", "is a format that is not read"),
        ("application/cloudevents+protobuf; a=b", "is a format that is not read"),
        ("application/cloudevents", "is a format that is not read"),
        ("application/avro", "is a format that is not read"),
        ("application/x-protobuf", "is a format that is not read"),
        ("text/plain", "is a format that is not read"),
    ],
)
def test_a_format_that_is_not_read_is_named_with_those_that_are(
    content_type: str, what: str
) -> None:
    violation = refusal(binary(**{"content-type": content_type.encode()}), value=b"[]")
    assert violation.field == "content-type"
    assert violation.rule.startswith(f"{content_type.partition(';')[0].lower()} {what}")
    assert "application/cloudevents+json" in violation.rule


def test_extensions_come_in_the_order_of_their_names_in_either_mode() -> None:
    more = {"tenant": "a", "dataschema": "urn:x", "b2": "é"}
    headers = [*binary(), *((f"ce_{name}", text.encode()) for name, text in more.items())]
    inside = structured(
        retries=3, urgent=True, nothing=None, deep={"a": 1}, big="x" * 3_000, **more
    )
    assert list(decode(b"k", b"{}", headers).extensions.items()) == [
        ("b2", "é"),
        ("dataschema", "urn:x"),
        ("tenant", "a"),
    ]
    found = decode(b"k", inside, STRUCTURED).extensions
    assert found == more | {"retries": "3", "urgent": "true"}


@pytest.mark.parametrize(
    "name", ["id", "traceparent", "term", "data", "Tenant", "a-b", "", "x" * 21]
)
def test_an_extension_has_a_name_of_its_own(name: str) -> None:
    with pytest.raises(MessageRejected, match="a name has 1 to 20 of a-z and 0-9"):
        Extensions({name: "a"})


@pytest.mark.parametrize("text", ["a\nb", "x" * (ATTRIBUTE_BYTES + 1), "\ud800"])
def test_an_extension_is_text_that_every_reader_takes(text: str) -> None:
    with pytest.raises(MessageRejected, match="tenant"):
        Extensions({"tenant": text})
    assert decode(b"k", b"{}", binary()).extensions is NO_EXTENSIONS


@pytest.mark.parametrize("name", ["id", "type"])
def test_an_attribute_has_at_most_255_characters(name: str) -> None:
    decode(b"k", None, binary(**{f"ce_{name}": b"x" * 255}))
    assert refusal(binary(**{f"ce_{name}": b"x" * 256})).field == name


@pytest.mark.parametrize("name", ["ce_sequence", "position", "term"])
@pytest.mark.parametrize(
    "raw", [b"", b"A-7", b"-1", b"1.0", b"0x1", b" 1", "\uff11".encode(), b"1" * 21]
)
def test_a_number_that_is_not_ours_is_none(name: str, raw: bytes) -> None:
    envelope = decode(b"k", b"{}", binary(**{name: raw}))
    assert getattr(envelope, name.removeprefix("ce_")) is None


@given(st.lists(st.tuples(st.sampled_from(["id", "x-b3", "", "CE_ID", "é"]), st.binary())))
def test_a_strangers_header_is_ignored(foreign: Headers) -> None:
    assert decode(b"k", b"{}", [*foreign, *binary()]) == decode(b"k", b"{}", binary())
