"""ConsumerRecord: a record as a consumer gets it; nothing in it is decoded yet."""

from typing import Any, NamedTuple

__all__ = ["ConsumerRecord", "Fetched", "Partition", "read_consumer_record"]

Partition = tuple[str, int]  # a topic's name and a number from 0 on


class ConsumerRecord(NamedTuple):
    """A record as the broker gave it, with key, value and headers as bytes."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_milliseconds: int


Fetched = dict[Partition, list[ConsumerRecord]]


def read_consumer_record(record: Any) -> ConsumerRecord:
    """Build a ConsumerRecord from a record of aiokafka's."""
    return ConsumerRecord(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value,
        tuple(record.headers),
        record.timestamp,
    )
