"""Work items and records for tests that need no broker."""

from consumers.dead_letters.redelivery import Retried
from consumers.runner.work_item import WorkItem, read_work_item
from outbox.kafka import ConsumerRecord
from schemas.envelope import Envelope
from schemas.wire import encode

TOPIC = "test.note.events"


def record_of(
    key: str, offset: int, partition: int = 0, version: int | None = None
) -> ConsumerRecord:
    """The record of an event of `key`; the event's id is `key@offset`."""
    envelope = Envelope(
        id=f"{key}@{offset}",
        source="/test",
        type="test.note.v1",
        key=key,
        payload=b"{}",
        sequence=version,
    )
    raw_key, value, headers = encode(envelope)
    return ConsumerRecord(TOPIC, partition, offset, raw_key, value, tuple(headers), 0)


def broken_record(key: bytes | None, offset: int) -> ConsumerRecord:
    """A record without any header, which can never be decoded."""
    return ConsumerRecord(TOPIC, 0, offset, key, b"\xff", (), 0)


def item(key: str, offset: int) -> WorkItem:
    """The work item of such an event."""
    return read_work_item(record_of(key, offset))


def retried(key: str, offset: int) -> Retried:
    """The message of a letter whose id is the offset."""
    return Retried(offset, record_of(key, offset), f"{TOPIC}/{key}")
