"""The wire: what is encoded decodes to the same, and a message is about its subject (FA9, FB1)."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import Envelope
from schemas.errors import Violation
from schemas.extensions import Extensions
from schemas.wire import decode, encode
from schemas.wire.codec import format_sequence
from schemas.wire.rfc3339 import format_time
from tests.kit.schemas.wire_records import (
    FULL,
    NAMES_OF_OTHERS,
    NOON,
    PRINTABLE,
    STRUCTURED,
    binary,
    refusal,
    structured,
)

WORDS = st.text(PRINTABLE, min_size=1, max_size=255)
NUMBERS = st.none() | st.integers(0, 10**20 - 1)
TRACES = st.none() | st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
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


@pytest.mark.parametrize("raw", [b"yesterday", b"2026-13-01T00:00:00Z", b"1767355200"])
def test_a_time_is_a_time(raw: bytes) -> None:
    assert refusal(binary(ce_time=raw)) == Violation("time", "must be RFC 3339")
