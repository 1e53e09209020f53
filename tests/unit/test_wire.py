"""The wire: what we send others can read, what others send we can, and the rest is refused."""

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import Envelope
from schemas.errors import MessageRejected, Violation
from schemas.wire import MAX_ATTRIBUTE_BYTES, Headers, decode, encode, sequence, timestamp

NOON = datetime(2026, 1, 2, 12, 0, 0, 345_678, tzinfo=UTC)
FULL = Envelope(
    id="6f1d",
    source="/catalog",
    type="catalog.item-removed.v1",
    key="airports/JFK",
    payload=b'{"item_id":"JFK"}',
    time=NOON,
    sequence=7,
    correlation_id="c-1",
    causation_id="c-2",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    position=4_000,
    term=3,
)

PRINTABLE = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
WORDS = st.text(PRINTABLE, min_size=1, max_size=255)
NUMBERS = st.none() | st.integers(0, 10**20 - 1)
TIMES = st.none() | st.datetimes(timezones=st.just(UTC))
ENVELOPES = st.builds(
    Envelope,
    id=WORDS,
    source=WORDS,
    type=WORDS,
    key=WORDS,
    payload=st.none() | st.binary(),
    time=TIMES,
    sequence=NUMBERS,
    correlation_id=st.none() | WORDS,
    causation_id=st.none() | WORDS,
    traceparent=st.none() | WORDS,
    position=NUMBERS,
    term=NUMBERS,
)


def binary(**changed: bytes | None) -> Headers:
    """The headers of a good record; `ce_id=None` leaves that one out."""
    good: dict[str, bytes | None] = {
        "ce_specversion": b"1.0",
        "ce_id": b"1",
        "ce_source": b"/test",
        "ce_type": b"test.done.v1",
    }
    return [(name, raw) for name, raw in (good | changed).items() if raw is not None]


def refusal(headers: Headers, key: bytes | None = b"k", value: bytes | None = b"{}") -> Violation:
    with pytest.raises(MessageRejected) as caught:
        decode(key, value, headers)
    (violation,) = caught.value.violations
    return violation


STRUCTURED: Headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


def structured(**changed: Any) -> bytes:
    """A good event in structured mode; `id=None` leaves that one out."""
    good = {"specversion": "1.0", "id": "1", "source": "/test", "type": "t", "subject": "k"}
    event = {name: part for name, part in (good | changed).items() if part is not None}
    return json.dumps(event).encode()


@given(ENVELOPES)
def test_what_is_encoded_decodes_to_the_same(envelope: Envelope) -> None:
    assert decode(*encode(envelope)) == envelope


def test_a_full_record_looks_as_documented() -> None:
    key, value, headers = encode(FULL)
    assert key == b"airports/JFK"
    assert value == b'{"item_id":"JFK"}'
    assert headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"6f1d"),
        ("ce_source", b"/catalog"),
        ("ce_type", b"catalog.item-removed.v1"),
        ("ce_subject", b"airports/JFK"),
        ("ce_time", b"2026-01-02T12:00:00.345678Z"),
        ("ce_sequence", b"00000000000000000007"),
        ("content-type", b"application/json"),
        ("id", b"6f1d"),
        ("correlationid", b"c-1"),
        ("causationid", b"c-2"),
        ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("position", b"4000"),
        ("term", b"3"),
    ]


def test_a_tombstone_has_no_value() -> None:
    tombstone = Envelope(id="1", source="/test", type="t", key="k", payload=None)
    assert encode(tombstone)[1] is None
    assert decode(*encode(tombstone)).payload is None


@given(st.integers(0, 10**20 - 1), st.integers(0, 10**20 - 1))
def test_sequences_sort_as_text_as_they_do_as_numbers(one: int, other: int) -> None:
    assert (sequence(one) < sequence(other)) == (one < other)


def test_a_time_is_written_in_utc() -> None:
    there = NOON.astimezone(timezone(timedelta(hours=-5)))
    assert timestamp(there) == "2026-01-02T12:00:00.345678Z"


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (b"2026-01-02T12:00:00.345678Z", NOON),
        (b"2026-01-02T07:00:00.345678-05:00", NOON),
        (b"2026-01-02T12:00:00Z", NOON.replace(microsecond=0)),
        (b"2026-01-02T12:00:00", NOON.replace(microsecond=0)),
    ],
)
def test_a_time_is_read_in_any_zone(text: bytes, time: datetime) -> None:
    assert decode(b"k", None, binary(ce_time=text)).time == time


# What the CloudEvents SDK for Python makes of ours, and we of its.


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
    )


def test_we_read_bytes_that_the_sdk_wraps_in_base64() -> None:
    message = kafka.to_structured_event(sdk_event(b"\x00\xff"))
    assert b"data_base64" in message.value
    assert received(message).payload == b"\x00\xff"


# Structured mode in.


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


# Refusals, each with its field.


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_a_missing_or_empty_attribute_is_refused(name: str) -> None:
    assert refusal(binary(**{f"ce_{name}": None})).field == name
    assert refusal(binary(**{f"ce_{name}": b""})).field == name


def test_another_specversion_is_refused() -> None:
    assert refusal(binary(ce_specversion=b"0.3")) == Violation("specversion", "must be 1.0")


@pytest.mark.parametrize(
    "name", ["ce_id", "ce_type", "ce_other", "content-type", "traceparent", "position", "term"]
)
def test_a_header_that_comes_twice_is_refused(name: str) -> None:
    headers = binary(**{name: b"1"})
    assert refusal([*headers, (name, b"1")]) == Violation(name, "may appear only once")


@pytest.mark.parametrize("name", ["ce_id", "ce_other", "correlationid", "traceparent"])
@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"\xff", "must be UTF-8"),
        (b"\xed\xa0\x80", "must be UTF-8"),
        (b"a\nb", "must not contain control characters"),
        (b"a\x00b", "must not contain control characters"),
        (b"\x1b[31m", "must not contain control characters"),
        ("a\u2028b".encode(), "must not contain control characters"),
        (b"x" * (MAX_ATTRIBUTE_BYTES + 1), "must have a value of at most 1024 bytes"),
    ],
)
def test_a_header_that_cannot_be_shown_is_refused(name: str, raw: bytes, rule: str) -> None:
    assert refusal(binary(**{name: raw})) == Violation(name, rule)


def test_a_header_without_a_value_is_refused() -> None:
    nothing: Any = None
    assert refusal([*binary(), ("ce_other", nothing)]).field == "ce_other"


@pytest.mark.parametrize("name", ["id", "source", "type"])
def test_an_attribute_has_at_most_255_characters(name: str) -> None:
    decode(b"k", None, binary(**{f"ce_{name}": b"x" * 255}))
    assert refusal(binary(**{f"ce_{name}": b"x" * 256})).field == name


@pytest.mark.parametrize(
    ("key", "subject", "field"),
    [
        (None, None, "subject"),
        (b"", None, "subject"),
        (b"", b"", "subject"),
        (b"k", b"other", "subject"),
        (b"x" * 256, None, "subject"),
        (b"\xff", None, "key"),
        (b"a\x00", None, "key"),
    ],
)
def test_a_record_has_one_good_key(key: bytes | None, subject: bytes | None, field: str) -> None:
    assert refusal(binary(ce_subject=subject), key=key).field == field


@pytest.mark.parametrize(
    ("key", "subject"), [(b"k", b"k"), (b"k", None), (b"k", b""), (None, b"k"), (b"", b"k")]
)
def test_the_key_is_the_records_or_else_the_subject(
    key: bytes | None, subject: bytes | None
) -> None:
    assert decode(key, None, binary(ce_subject=subject)).key == "k"


@pytest.mark.parametrize("name", ["ce_sequence", "position", "term"])
@pytest.mark.parametrize("raw", [b"", b"-1", b"1.0", b"0x1", b" 1", "\uff11".encode(), b"1" * 21])
def test_a_number_is_digits(name: str, raw: bytes) -> None:
    assert refusal(binary(**{name: raw})).field == name.removeprefix("ce_")


@pytest.mark.parametrize("raw", [b"", b"yesterday", b"2026-13-01T00:00:00Z", b"1767355200"])
def test_a_time_is_a_time(raw: bytes) -> None:
    assert refusal(binary(ce_time=raw)) == Violation("time", "must be RFC 3339")


@given(st.lists(st.tuples(st.sampled_from(["id", "x-b3", "", "CE_ID", "é"]), st.binary())))
def test_a_strangers_header_is_ignored(foreign: Headers) -> None:
    assert decode(b"k", b"{}", [*foreign, *binary()]) == decode(b"k", b"{}", binary())


NAMES = st.sampled_from(
    ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "ce_sequence"]
) | st.sampled_from(
    ["content-type", "correlationid", "position", "term", "ce_position", "id", "other"]
)
RAW = st.sampled_from([b"1.0", b"1", b"k", b"application/cloudevents+json"]) | st.binary()
PARTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.dictionaries(
    st.sampled_from(["specversion", "id", "source", "type", "subject", "time", "sequence"])
    | st.sampled_from(["data", "data_base64", "position"])
    | st.text(),
    st.sampled_from(["1.0", "k"]) | PARTS,
)


def only_refused(key: bytes | None, value: bytes | None, headers: Headers) -> None:
    try:
        decode(key, value, headers)
    except MessageRejected as error:
        assert error.violations
        assert str(error).isprintable()
        assert len(str(error)) < 10_000


@given(
    key=st.none() | st.binary(),
    value=st.none() | st.binary(),
    headers=st.lists(st.tuples(NAMES | st.text().map("ce_{}".format), RAW)),
)
def test_no_record_raises_anything_but_a_refusal(
    key: bytes | None, value: bytes | None, headers: Headers
) -> None:
    only_refused(key, value, headers)
    only_refused(key, value, binary() + headers)


@given(event=EVENTS)
def test_no_structured_event_raises_anything_but_a_refusal(event: dict[str, Any]) -> None:
    only_refused(b"k", json.dumps(event).encode(), STRUCTURED)
    good = {"specversion": "1.0", "id": "1", "source": "/test", "type": "t"}
    only_refused(b"k", json.dumps(event | good).encode(), STRUCTURED)


def test_a_refusal_shows_no_name_whole() -> None:
    only_refused(b"k", structured(**{"x" * 20_000: "\n"}), STRUCTURED)
    only_refused(b"k", None, [("ce_" + "x" * 20_000, b"\n")])
    only_refused(b"k", None, [("ce_\nforged", b"\n")])
