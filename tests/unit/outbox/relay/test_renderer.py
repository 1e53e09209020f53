"""The renderer works on bytes and makes the same record as `schemas.wire.encode`, header by header.

FA9: that includes extensions.
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.cursor.cut import Row
from outbox.kafka import Record
from outbox.relay.renderer import Renderer
from schemas.envelope import Envelope
from schemas.extensions import Extensions
from schemas.wire import decode, encode
from schemas.wire.rfc3339 import format_time
from tests.kit.records import headers_of

WORDS = st.text(
    st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=1, max_size=60
)
TRACING_FIELDS = {
    "correlationid": "correlation_id",
    "causationid": "causation_id",
    "traceparent": "traceparent",
}


@st.composite
def sent(draw: st.DrawFn) -> tuple[Row, Envelope]:
    """Draw a row as PostgreSQL gives it, and the envelope with the same content."""
    service, noun, key, name, topic = (draw(WORDS) for _ in range(5))
    service = service.replace(".", "_")
    version, position = draw(st.integers(1, 2**63 - 1)), draw(st.integers(1, 2**63 - 1))
    time = draw(st.datetimes())
    message_id = str(draw(st.uuids()))
    payload = draw(st.none() | st.text().map(str.encode))
    headers = draw(st.dictionaries(st.sampled_from([*TRACING_FIELDS]), WORDS))
    extensions = draw(st.dictionaries(st.sampled_from(["tenant", "a1", "dataschema"]), WORDS))
    text = format_time(time)
    row = Row(
        position=position,
        topic=topic.encode(),
        key=key.encode(),
        aggregatetype=f"{service}.{noun}".encode(),
        id=message_id.encode(),
        type=name.encode(),
        version=version,
        payload=payload,
        headers=json.dumps(headers | extensions, ensure_ascii=False).encode(),
        time=text.encode(),
    )
    tracing: dict[str, Any] = {TRACING_FIELDS[header]: value for header, value in headers.items()}
    envelope = Envelope(
        id=message_id,
        source=f"/{service}",
        type=name,
        key=key,
        payload=payload,
        time=time,
        sequence=version,
        position=position,
        term=9,
        extensions=Extensions(extensions),
        **tracing,
    )
    return row, envelope


@given(sent())
def test_a_row_renders_as_its_envelope_encodes(given: tuple[Row, Envelope]) -> None:
    row, envelope = given
    record = Renderer(term=9).render(row)
    key, value, headers = encode(envelope)
    assert (record.key, record.value) == (key, value)
    assert sorted(headers_of(record)) == sorted(headers)
    assert (record.position, record.topic) == (row.position, row.topic.decode())


@given(sent())
def test_the_attributes_come_first_and_in_the_same_order(given: tuple[Row, Envelope]) -> None:
    row, envelope = given
    attributes = 9  # all ce_* headers, content-type and id
    rendered, encoded = headers_of(Renderer(term=9).render(row)), encode(envelope)[2]
    assert rendered[:attributes] == encoded[:attributes]


@given(sent())
def test_what_is_rendered_decodes(given: tuple[Row, Envelope]) -> None:
    row, envelope = given
    record = Renderer(term=9).render(row)
    assert decode(record.key, record.value, headers_of(record)) == decode(*encode(envelope))


ROW = Row(1_000, b"t.events", b"k", b"t.thing", b"1", b"t.done.v1", 1, b"{}", b"{}", b"now")


def test_a_renderer_remembers_topics_and_sources_of_its_rows_only() -> None:
    renderer = Renderer(term=1)
    other = ROW._replace(topic=b"u.events", aggregatetype=b"u.thing")
    for row in (ROW, other, ROW, other):
        record = renderer.render(row)
        assert record.topic.encode() == row.topic
        assert dict(headers_of(record))["ce_source"] == b"/" + row.aggregatetype[:1]


def with_headers(document: bytes) -> Record:
    return Renderer(term=1).render(ROW._replace(headers=document))


@pytest.mark.parametrize("name", TRACING_FIELDS)
def test_a_header_that_is_null_is_not_sent(name: str) -> None:
    assert with_headers(b'{"%s": null}' % name.encode()) == with_headers(b"{}")


@pytest.mark.parametrize(
    "document",
    [
        '{"x-tenant": "a"}', '{"Tenant": "a"}', '{"term": "9"}', '{"id": "9"}', '{"tenant": null}',
        '{"tenant": 5}', '{"tenant": "a\\nb"}', '{"tenant": "' + "x" * 2_000 + '"}',
    ],
)  # fmt: skip
def test_what_no_reader_takes_for_an_extension_is_not_sent(document: str) -> None:
    """Rows that were written by an older version may have such headers."""
    assert with_headers(document.encode()) == with_headers(b"{}")


@pytest.mark.parametrize(
    "document",
    [
        "null",
        "5",
        "true",
        "[]",
        '["traceparent"]',
        '"traceparent"',
        '{"traceparent": {"a": 1}}',
        '{"other": 1' + "0" * 400 + "}",
        "[" * 2_000 + "]" * 2_000,
    ],
)
def test_no_headers_that_a_writer_in_sql_may_store_stop_the_relay(document: str) -> None:
    assert with_headers(document.encode()) == with_headers(b"{}")
