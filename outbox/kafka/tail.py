"""Tail: the records of some topics from now on, for who follows without a consumer group."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self

from aiokafka import TopicPartition

from outbox.errors import DependencyDown
from outbox.kafka.consumer_record import ConsumerRecord, Partition, read_consumer_record
from outbox.kafka.errors import broker_errors
from outbox.kafka.reader import Reader


class Tail(Reader):
    """Enter to begin behind what the topics hold at that moment; it commits nothing.

    Where a transaction is open at that moment it begins with that, and waits for its end.

    DependencyDown where the broker removes records before they were read: whoever follows then
    begins anew. Weakness: topics and partitions that come later are not followed.
    """

    _next: dict[TopicPartition, int]

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            self._next = await self._stable_ends()
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
        """Behind the last record of each partition, at this moment."""
        return {partition: held.end for partition, held in (await self.held()).items()}

    async def _stable_ends(self) -> dict[TopicPartition, int]:
        if not self._partitions:
            return {}
        with broker_errors():
            async with asyncio.timeout(self._silence):
                return await self._consumer.stable_ends(self._partitions)

    async def next_records(self, most: int, wait_milliseconds: int) -> Sequence[ConsumerRecord]:
        """What has come, each partition's in the order of their offsets; empty if nothing has."""
        if not self._partitions:
            await asyncio.sleep(wait_milliseconds / 1000)
            return ()
        fetched = await self._fetch(most=most, wait_milliseconds=wait_milliseconds)
        with broker_errors():
            await self._require_whole(fetched)
        return [read_consumer_record(record) for records in fetched.values() for record in records]

    async def position(self) -> dict[Partition, int]:
        """What of each partition comes next."""
        with broker_errors():
            return {
                (tp.topic, tp.partition): await self._consumer.position(tp)
                for tp in self._partitions
            }

    async def _require_whole(self, fetched: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """Offsets that were passed over are markers, or gone: the broker knows which."""
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
