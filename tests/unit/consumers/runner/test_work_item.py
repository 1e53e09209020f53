"""WorkItem: any record makes one, with a name of its key that PostgreSQL can hold (C9, C19)."""

from dataclasses import replace

import pytest

from consumers.projections.projection import StreamKey, read_change
from consumers.runner.work_item import WorkItem, read_work_item
from outbox.errors import MessageRejected
from outbox.kafka import ConsumerRecord
from schemas.envelope import Envelope
from tests.kit.consumers.work_items import TOPIC, broken_record, record_of


@pytest.mark.parametrize(
    ("key", "stream"),
    [
        (b"a", f"{TOPIC}/a"),
        (b"\x00", f"{TOPIC}/\\0"),
        (b"\xff", f"{TOPIC}/\N{REPLACEMENT CHARACTER}"),
        (b"k" * 1_000_000, f"{TOPIC}/{'k' * 255}"),
        (b"", None),
        (None, None),
    ],
)
def test_a_broken_record_parks_its_key_where_it_has_one(key: bytes, stream: str | None) -> None:
    item = read_work_item(broken_record(key, 3))
    assert isinstance(item.content, MessageRejected)
    assert item.stream == stream
    assert item.queue == (stream or (TOPIC, 0, 3))


def test_a_task_counts_all_bytes_that_it_holds() -> None:
    record = record_of("a", 0)
    larger = record._replace(value=b"x" * 10_000)
    assert read_work_item(larger).bytes - read_work_item(record).bytes == 10_000 - len(
        record.value or b""
    )


GOOD = (
    ("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/test"), ("ce_type", b"t.v1"),
)  # fmt: skip


def sent(key: bytes | None, subject: bytes | None) -> WorkItem:
    said = () if subject is None else (("ce_subject", subject),)
    return read_work_item(ConsumerRecord("topic", 0, 7, key, b"{}", (*GOOD, *said), 0))


@pytest.mark.parametrize(
    ("key", "subject", "stream", "about"),
    [
        (b"k", b"k", "topic/k", "k"),
        (b"tenant", b"k", "topic/tenant", "k"),
        (None, b"k", "topic/k", "k"),
        (b"", b"k", "topic/k", "k"),
        (b"k", None, "topic/k", "k"),
        (b"\x00\xff", b"k", "topic/\\0\ufffd", "k"),
    ],
)
def test_a_lane_is_the_records_key_and_the_message_is_about_its_subject(
    key: bytes | None, subject: bytes | None, stream: str, about: str
) -> None:
    """FB1: commands that are keyed by a tenant are applied in that tenant's order."""
    found = sent(key, subject)
    assert isinstance(found.content, Envelope)
    assert (found.stream, found.queue, found.content.key) == (stream, stream, about)


@pytest.mark.parametrize("key", [None, b"tenant", b"\xff"])
def test_an_event_that_names_no_subject_is_about_what_its_payload_says(key: bytes | None) -> None:
    """FB1: an event whose subject differs from its payload is refused, and the error names it."""
    said = (("ce_sequence", b"7"), ("ce_type", b"catalog.catalog-created.v1"))
    record = ConsumerRecord("t", 0, 7, key, b'{"catalog_id":"c","name":"n"}', (*GOOD[:3], *said), 0)
    found = read_work_item(record).content
    assert isinstance(found, Envelope)
    assert read_change(found).stream == StreamKey("catalog.catalog", "c")
    with pytest.raises(MessageRejected, match="subject: must be the key of the event"):
        read_change(replace(found, key="d", names_subject=True))
