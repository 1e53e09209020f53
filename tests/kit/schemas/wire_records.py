"""Records as they come over the wire: good ones to change, and the refusal of a bad one."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import strategies as st

from schemas.envelope import Envelope
from schemas.errors import MessageRejected, Violation
from schemas.extensions import is_name
from schemas.wire import Headers, decode

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
NAMES_OF_OTHERS = st.from_regex("[a-z0-9]{1,20}", fullmatch=True).filter(is_name)


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


OURS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
THEIRS = "00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-00"
