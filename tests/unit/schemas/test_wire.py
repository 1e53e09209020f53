"""The wire: what we send others can read, what others send we can, and the rest is refused.

FA9: extensions travel. FB1: what is not used is read as it comes; what is used is read strictly.
"""

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
from schemas.extensions import NO_EXTENSIONS, Extensions, is_name
from schemas.limits import ATTRIBUTE_BYTES
from schemas.wire import Headers, decode, encode
from schemas.wire.codec import format_sequence
from schemas.wire.rfc3339 import format_time

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
TRACES = st.none() | st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
NAMES_OF_OTHERS = st.from_regex("[a-z0-9]{1,20}", fullmatch=True).filter(is_name)
EXTENSIONS = st.dictionaries(NAMES_OF_OTHERS, st.just("") | WORDS, max_size=4).map(Extensions)
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
    traceparent=TRACES,
    position=NUMBERS,
    term=NUMBERS,
    extensions=EXTENSIONS,
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
    assert (format_sequence(one) < format_sequence(other)) == (one < other)


def test_a_time_is_written_in_utc() -> None:
    there = NOON.astimezone(timezone(timedelta(hours=-5)))
    assert format_time(there) == "2026-01-02T12:00:00.345678Z"


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (b"2026-01-02T12:00:00.345678Z", NOON),
        (b"2026-01-02T07:00:00.345678-05:00", NOON),
        (b"2026-01-02T12:00:00Z", NOON.replace(microsecond=0)),
        (b"2026-01-02T12:00:00", NOON.replace(microsecond=0)),
        (b"2026-01-02t12:00:00z", NOON.replace(microsecond=0)),
        (b"2026-01-02T12:00:00.345678999Z", NOON),
        (b"2026-01-02T12:00:00.3Z", NOON.replace(microsecond=300_000)),
        (b"2026-01-02T12:00:00-00:00", NOON.replace(microsecond=0)),
        (b"2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, 999_999, UTC)),
        (b"2016-12-31t18:59:60.25-05:00", datetime(2016, 12, 31, 23, 59, 59, 999_999, UTC)),
    ],
)
def test_a_time_is_read_as_rfc_3339_writes_it(text: bytes, time: datetime) -> None:
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
        extensions=Extensions(more),
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


OURS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
THEIRS = "00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-00"


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


@pytest.mark.parametrize("data", [{"data": "<a/>"}, {"data_base64": "PGEvPg=="}])
def test_structured_data_of_another_format_is_named(data: dict[str, str]) -> None:
    event = structured(datacontenttype="application/xml", **data)
    assert refusal(STRUCTURED, value=event).field == "datacontenttype"


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


@pytest.mark.parametrize(
    ("key", "subject"),
    [
        (None, None),
        (b"", None),
        (b"", b""),
        (b"x" * 256, None),
        (b"\xff", None),
        (b"a\x00", b""),
        (b"\x00\x00\x00\x00\x00\x00\x00\x07", None),
    ],
)
def test_a_message_without_a_subject_and_a_key_that_is_text_is_valid(
    key: bytes | None, subject: bytes | None
) -> None:
    """FB1: its sender need name none of them; until its payload is read, its id stands in."""
    for headers, value in (
        (binary(ce_subject=subject), b"{}"),
        (STRUCTURED, structured(subject=None)),
    ):
        found = decode(key, value, headers)
        assert (found.key, found.names_subject) == ("1", False)
    assert decode(key, b"{}", binary(ce_subject=b"k")).names_subject


def test_a_subject_has_at_most_255_characters() -> None:
    decode(b"k", b"{}", binary(ce_subject=b"x" * 255))
    assert refusal(binary(ce_subject=b"x" * 256)).field == "subject"


@pytest.mark.parametrize(
    ("key", "subject"), [(b"k", b"k"), (b"k", None), (b"k", b""), (None, b"k"), (b"", b"k")]
)
def test_a_message_is_about_its_subject_or_else_its_key(
    key: bytes | None, subject: bytes | None
) -> None:
    assert decode(key, None, binary(ce_subject=subject)).key == "k"


@pytest.mark.parametrize("key", [b"tenant-1", b"\xff\x00", b"x" * 5_000])
def test_the_key_of_a_record_may_be_anything_beside_a_subject(key: bytes) -> None:
    assert decode(key, None, binary(ce_subject=b"k")).key == "k"


@pytest.mark.parametrize("name", ["ce_sequence", "position", "term"])
@pytest.mark.parametrize(
    "raw", [b"", b"A-7", b"-1", b"1.0", b"0x1", b" 1", "\uff11".encode(), b"1" * 21]
)
def test_a_number_that_is_not_ours_is_none(name: str, raw: bytes) -> None:
    envelope = decode(b"k", b"{}", binary(**{name: raw}))
    assert getattr(envelope, name.removeprefix("ce_")) is None


@pytest.mark.parametrize("raw", [b"yesterday", b"2026-13-01T00:00:00Z", b"1767355200"])
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


# Whatever the SDK takes for a valid event is the same event to us.

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
