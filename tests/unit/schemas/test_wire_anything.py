"""The wire: whatever a record holds, it is read or refused, and nothing else is raised."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MessageRejected
from schemas.wire import Headers, decode
from tests.kit.schemas.wire_records import STRUCTURED, binary, structured

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
