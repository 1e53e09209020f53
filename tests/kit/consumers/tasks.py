"""Tasks and records for tests that need no broker."""

from consumers.dead_letters.redelivery import Retried
from consumers.runner.work_item import Task, task_of
from outbox.kafka import Received
from schemas.envelope import Envelope
from schemas.wire import encode

TOPIC = "test.note.events"


def record_of(key: str, offset: int, partition: int = 0, version: int | None = None) -> Received:
    """An event of `key`; its id says which."""
    envelope = Envelope(
        id=f"{key}@{offset}",
        source="/test",
        type="test.note.v1",
        key=key,
        payload=b"{}",
        sequence=version,
    )
    raw_key, value, headers = encode(envelope)
    return Received(TOPIC, partition, offset, raw_key, value, tuple(headers), 0)


def broken_record(key: bytes | None, offset: int) -> Received:
    """Without any attribute."""
    return Received(TOPIC, 0, offset, key, b"\xff", (), 0)


def task(key: str, offset: int) -> Task:
    return task_of(record_of(key, offset))


def retried(key: str, offset: int) -> Retried:
    return Retried(offset, record_of(key, offset), f"{TOPIC}/{key}")
