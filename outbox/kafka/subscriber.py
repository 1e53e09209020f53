"""Subscriber: a member of a consumer group that commits by hand."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from outbox.kafka.edge import broker_errors, stop


class Received(NamedTuple):
    """A record as it came; nothing in it is decoded yet."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_milliseconds: int


Partition = tuple[str, int]


class Subscriber:
    """A member of a consumer group with manual commits that starts at the beginning.

    `receive` gives records in offset order for each partition; nothing is committed but what
    `commit` is told. A group that has no offsets starts at the earliest record.
    """

    def __init__(
        self,
        bootstrap: str,
        group: str,
        topics: Sequence[str],
        session_timeout_milliseconds: int,
        max_fetch_bytes: int,
    ) -> None:
        # A commit that has taken as long as a session would be refused anyway.
        self._commit_seconds = session_timeout_milliseconds / 1000
        self._consumer = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=bootstrap,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=session_timeout_milliseconds,
            heartbeat_interval_ms=max(100, session_timeout_milliseconds // 10),
            rebalance_timeout_ms=session_timeout_milliseconds,
            max_poll_interval_ms=24 * 3600 * 1000,  # an outage of a store is waited out
            fetch_max_bytes=max_fetch_bytes,
            max_partition_fetch_bytes=max_fetch_bytes,
        )

    async def __aenter__(self) -> Self:
        with broker_errors():
            try:
                await self._consumer.start()
            except BaseException:
                await stop(self._consumer)
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop(self._consumer)

    async def receive(
        self, max_records: int, wait_milliseconds: int
    ) -> dict[Partition, list[Received]]:
        """What has arrived, at most `max_records`; empty when nothing did in time."""
        with broker_errors():
            fetched = await self._consumer.getmany(
                timeout_ms=wait_milliseconds, max_records=max_records
            )
        return {
            (tp.topic, tp.partition): [_received(record) for record in records]
            for tp, records in fetched.items()
        }

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Record, for each partition, the offset of the next record to read."""
        positions = {TopicPartition(*partition): offset for partition, offset in offsets.items()}
        with broker_errors():
            async with asyncio.timeout(self._commit_seconds):
                await self._consumer.commit(positions)

    def assigned(self) -> set[Partition]:
        return {(tp.topic, tp.partition) for tp in self._consumer.assignment()}


def _received(record: Any) -> Received:
    return Received(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value,
        tuple(record.headers),
        record.timestamp,
    )
