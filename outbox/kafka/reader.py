"""Reader: reads the records of some topics between two offsets, without a consumer group.

It commits nothing and creates no topic. Memory is bounded by what a broker sends at once
(`FETCH_BYTES`) and by the size to which one batch may inflate.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Self

from aiokafka import TopicPartition

from outbox.errors import DependencyDown
from outbox.kafka.consumer import BROKEN, Consumer
from outbox.kafka.consumer_record import Partition
from outbox.kafka.errors import broker_errors, start_client, stop_client
from outbox.kafka.inflation import INFLATED_BATCH_BYTES

FETCH_BYTES = 4 * 1024 * 1024
FETCH_PARTITION_BYTES = 1024 * 1024
MAX_RECORDS = 2_000
LOOK_MILLISECONDS = 200


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """The offsets of a partition from `first` on, and before `end`.

    Offsets of an open transaction are among them: they can be read, or passed, once it has ended.
    """

    first: int
    end: int


class Reader:
    """Reads `topics`; a topic that the broker does not know has no partitions.

    DependencyDown where the broker is silent for `silence_seconds`: at the start, at a question, or
    while there is something left to read. An open transaction that holds records back for so long
    counts as silence. Unreadable where a batch is broken, packed by a codec that is not installed,
    or inflates to more than `inflated_batch_bytes`.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Collection[str],
        silence_seconds: float,
        inflated_batch_bytes: int = INFLATED_BATCH_BYTES,
    ) -> None:
        self._bootstrap = bootstrap
        self._inflated_batch_bytes = inflated_batch_bytes
        self._topics = topics
        self._silence = silence_seconds
        self._consumer = self._build_consumer()
        self._partitions: list[TopicPartition] = []

    async def __aenter__(self) -> Self:
        """Start; a first client only asks which topics exist: naming others may create them."""
        try:
            with broker_errors():
                async with asyncio.timeout(self._silence):
                    await start_client(self._consumer)
                    there = sorted(set(self._topics) & await self._consumer.topics())
                    await stop_client(self._consumer)
                    if not there:  # there is nothing to read, so no second client is needed
                        return self
                    self._consumer = self._build_consumer(*there)
                    await start_client(self._consumer)
                    self._partitions = self._consumer.list_partitions(there)
        except BaseException:
            await stop_client(self._consumer)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_client(self._consumer)

    async def read_ranges(self) -> dict[Partition, OffsetRange]:
        """Return the offsets that each partition of the topics holds at this moment."""
        if not self._partitions:
            return {}
        with broker_errors():
            async with asyncio.timeout(self._silence):
                firsts = await self._consumer.beginning_offsets(self._partitions)
                ends = await self._consumer.end_offsets(self._partitions)
        return {
            (tp.topic, tp.partition): OffsetRange(firsts[tp], ends[tp]) for tp in self._partitions
        }

    async def read(
        self, spans: Mapping[Partition, OffsetRange]
    ) -> AsyncGenerator[tuple[Partition, list[Any]], None]:
        """Yield the records of each span: a partition, and some of its records in offset order.

        A record has `offset`, `key`, `value` and `headers`, as aiokafka gives them. Records that
        the broker removes meanwhile are left out.
        """
        left = {TopicPartition(*at): span for at, span in spans.items() if span.first < span.end}
        if not left:
            return
        self._consumer.unsubscribe()
        self._consumer.assign(list(left))
        for tp, span in left.items():
            self._consumer.seek(tp, span.first)
        heard, reached = monotonic(), self._consumer.positions()
        while left:
            for tp, records in (await self._fetch(*left, most=MAX_RECORDS)).items():
                yield (tp.topic, tp.partition), _take_before(left[tp].end, records)
            positions = self._consumer.positions()
            if positions != reached:  # by records, or past aborted ones
                heard, reached = monotonic(), positions
            elif monotonic() - heard > self._silence:
                raise DependencyDown("kafka", await self._explain_silence(left))
            self._drop_read(left, positions)

    async def _fetch(
        self, *partitions: TopicPartition, most: int, wait_milliseconds: int = LOOK_MILLISECONDS
    ) -> dict[TopicPartition, list[Any]]:
        with broker_errors():
            try:
                return dict(
                    await self._consumer.getmany(
                        *partitions, timeout_ms=wait_milliseconds, max_records=most
                    )
                )
            except BROKEN as error:
                raise self._consumer.build_unreadable(error) from error

    def _drop_read(
        self, left: dict[TopicPartition, OffsetRange], positions: Mapping[TopicPartition, int]
    ) -> None:
        """Stop reading what was read to its end; the last offset may be a marker, not a record."""
        for tp in [tp for tp, span in left.items() if positions.get(tp, -1) >= span.end]:
            del left[tp]
            self._consumer.pause(tp)

    async def _explain_silence(self, left: Mapping[TopicPartition, OffsetRange]) -> str:
        """Return why no record comes: an open transaction if there is one, else only the time."""
        silent = f"no record for {self._silence:g} s"
        try:
            with broker_errors():
                async with asyncio.timeout(self._silence):
                    stable = await self._consumer.stable_ends(list(left))
        except DependencyDown:  # the broker answers no other question either
            return silent
        for tp, span in left.items():
            if stable[tp] < span.end:
                return (
                    f"{tp.topic}/{tp.partition}: another program's transaction is open from offset"
                    f" {stable[tp]} on, and holds back what is behind; ask again when it has ended"
                )
        return silent

    def _build_consumer(self, *topics: str) -> Consumer:
        return Consumer(
            *topics,
            bootstrap_servers=self._bootstrap,
            inflated_batch_bytes=self._inflated_batch_bytes,
            auto_offset_reset="earliest",
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=FETCH_PARTITION_BYTES,
        )


def _take_before(end: int, records: list[Any]) -> list[Any]:
    if records[-1].offset < end:
        return records
    return [record for record in records if record.offset < end]
