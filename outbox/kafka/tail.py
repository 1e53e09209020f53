"""Tail: follows the records of some topics from now on, without a consumer group."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self

from aiokafka import TopicPartition

from outbox.errors import DependencyDown
from outbox.kafka.consumer_record import ConsumerRecord, Partition, read_consumer_record
from outbox.kafka.errors import broker_errors
from outbox.kafka.reader import Reader


class Tail(Reader):
    """A reader that, when entered, begins behind the records that the topics hold at that moment.

    Where a transaction is open then, it begins with that transaction and waits for its end. It
    commits nothing. DependencyDown where the broker removes records before they were read: the
    caller then has to begin anew. Weakness: topics and partitions that are added later are not
    followed.
    """

    _next: dict[TopicPartition, int]

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            self._next = await self._read_stable_ends()
        except BaseException:
            await self.__aexit__()
            raise
        if not self._partitions:
            return self
        self._consumer.unsubscribe()
        self._consumer.assign(self._partitions)
        for tp, end in self._next.items():
            self._consumer.seek(tp, end)
        return self

    async def ends(self) -> dict[Partition, int]:
        """Return the offset behind the last record of each partition at this moment."""
        return {partition: found.end for partition, found in (await self.read_ranges()).items()}

    async def _read_stable_ends(self) -> dict[TopicPartition, int]:
        if not self._partitions:
            return {}
        with broker_errors():
            async with asyncio.timeout(self._silence):
                return await self._consumer.stable_ends(self._partitions)

    async def next_records(self, most: int, wait_milliseconds: int) -> Sequence[ConsumerRecord]:
        """Wait at most `wait_milliseconds` and return at most `most` records that have come.

        The records of a partition are in the order of their offsets. Empty if none has come.
        """
        if not self._partitions:
            await asyncio.sleep(wait_milliseconds / 1000)
            return ()
        fetched = await self._fetch(most=most, wait_milliseconds=wait_milliseconds)
        with broker_errors():
            await self._require_whole(fetched)
        return [read_consumer_record(record) for records in fetched.values() for record in records]

    async def position(self) -> dict[Partition, int]:
        """Return the offset of each partition that is read next."""
        with broker_errors():
            return {
                (tp.topic, tp.partition): await self._consumer.position(tp)
                for tp in self._partitions
            }

    async def _require_whole(self, fetched: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """Raise DependencyDown if records were removed before they were read.

        Offsets that were passed over are either transaction markers or removed records; the
        partition's earliest offset tells which.
        """
        passed = {
            tp: self._next[tp]
            for tp, records in fetched.items()
            if records[0].offset > self._next[tp]
        }
        self._next.update({tp: records[-1].offset + 1 for tp, records in fetched.items()})
        if not passed:
            return
        firsts = await self._consumer.beginning_offsets(list(passed))
        if any(firsts[tp] > expected for tp, expected in passed.items()):
            raise DependencyDown("kafka", "records were removed before they were read")
