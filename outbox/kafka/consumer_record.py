"""Received: a record as a consumer gets it; nothing in it is decoded yet."""

from typing import Any, NamedTuple

Partition = tuple[str, int]


class ConsumerRecord(NamedTuple):
    """A record as it came."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_milliseconds: int


Fetched = dict[Partition, list[ConsumerRecord]]


def read_consumer_record(record: Any) -> ConsumerRecord:
    """Of what aiokafka gives."""
    return ConsumerRecord(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value,
        tuple(record.headers),
        record.timestamp,
    )
