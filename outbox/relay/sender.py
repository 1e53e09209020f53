"""Carrier: takes a page to Kafka, and finds out which of its records Kafka refuses for good.

A broker refuses a whole batch for one record. The carrier halves a refused batch until the record
is alone, sets that record's key aside, and goes on with the others, each time with a new producer,
since the old one is not safe to go on with.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol, Self

import structlog

from outbox.kafka import (
    Batch,
    Delivery,
    Packed,
    Publisher,
    Record,
    RefusedBatch,
    RefusedRecord,
    SendOutcome,
    Stream,
    read_stream,
)
from outbox.kafka.errors import TOO_LARGE
from outbox.kafka.topic_partitions import TopicPartitions
from outbox.runtime.failpoints import Failpoint, failpoint, while_waiting
from outbox.settings import Settings

log = structlog.get_logger()

# aiokafka counts a partition's records in 31 bits and goes wrong at their end.
RECORDS_PER_PRODUCER = 1 << 30


class PublishingLease(Protocol):
    """Whose turn it is to publish, and for how long that is certain: outbox.cursor.lease.Lease."""

    def require(self) -> None:
        """Raise LeaseLost unless it provably goes on."""

    def remaining(self) -> float:
        """Seconds for which it does."""


@dataclass(slots=True)
class SendResult:
    """What became of a page: acknowledged, refused (one record a key), or behind a refused one."""

    deliveries: list[Delivery] = field(default_factory=list)
    refused: dict[Stream, RefusedRecord] = field(default_factory=dict)
    waiting: list[Record] = field(default_factory=list)

    def refuse(self, record: Record, reason: str) -> None:
        """A key's first refused record parks it; its later ones wait."""
        if read_stream(record) in self.refused:
            self.waiting.append(record)
        else:
            self.refused[read_stream(record)] = RefusedRecord(record, reason)

    def flowing(self, records: Iterable[Record]) -> list[Record]:
        """Those whose key is not set aside; the others wait."""
        kept: list[Record] = []
        for record in records:
            aside = read_stream(record) in self.refused
            (self.waiting if aside else kept).append(record)
        return kept


class Sender:
    """Owns the publisher, and replaces it after every refusal. One page at a time.

    `partitions` are the recorded counts of the topics; `keep` renews the lease between attempts.
    `routes` says which counts were used; the new ones among them are to be recorded.
    """

    def __init__(
        self,
        settings: Settings,
        turn: PublishingLease,
        partitions: dict[str, int],
        keep: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._turn = turn
        self._keep = keep
        self.routes = TopicPartitions(partitions, settings.publish_timeout_seconds)
        self._batch_bytes: dict[str, int] = {}
        self._held = AsyncExitStack()
        self._publisher = self._new_publisher()

    async def __aenter__(self) -> Self:
        await self._held.enter_async_context(self._publisher)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._held.aclose()

    async def pack(self, records: Iterable[Record]) -> Packed:
        return await self._publisher.prepare(records)

    async def send_all(self, packed: Packed) -> SendResult:
        """Every record is accounted for on return. LeaseLost and DependencyDown end the term."""
        carried = SendResult()
        for refused in packed.refused:
            carried.refuse(refused.record, refused.reason)
        batches = packed.batches
        await self._keep()
        while batches:
            outcome = await self._publish(batches)
            carried.deliveries += outcome.deliveries
            batches = await self._after(outcome.refused, carried)
        if self._publisher.sent > RECORDS_PER_PRODUCER:
            await self._replace_publisher()
        return carried

    async def _publish(self, batches: Sequence[Batch]) -> SendOutcome:
        failpoint(Failpoint.BATCHES_PACKED)
        self._turn.require()
        publishing = self._publisher.publish(batches, self._turn.remaining())
        return await while_waiting(Failpoint.BATCHES_SENT, publishing)

    async def _after(self, refused: Sequence[RefusedBatch], carried: SendResult) -> list[Batch]:
        """What is left to send: narrower where a batch was refused, without the keys set aside."""
        if not refused:
            return []
        groups = [group for each in refused for group in self._narrow(each, carried)]
        await self._keep()
        await self._replace_publisher()
        left: list[Batch] = []
        for group in groups:
            packed = await self._publisher.prepare(carried.flowing(group))
            for lost in packed.refused:
                carried.refuse(lost.record, lost.reason)
            left += packed.batches
        return left

    def _narrow(self, refused: RefusedBatch, carried: SendResult) -> list[list[Record]]:
        records, behind = refused.batch.records, [batch.records for batch in refused.behind]
        log.warning(
            "refused", topic=refused.batch.topic, reason=refused.reason, messages=len(records)
        )
        if refused.whole_topic:
            for record in (*records, *(record for group in behind for record in group)):
                carried.refuse(record, refused.reason)
            return []
        if len(records) == 1:
            carried.refuse(records[0], refused.reason)
            return behind
        if refused.reason == TOO_LARGE:
            self._batch_bytes[refused.batch.topic] = refused.batch.builder.size() // 2
        middle = len(records) // 2
        return [records[:middle], records[middle:], *behind]

    async def _replace_publisher(self) -> None:
        await self._held.aclose()
        self._publisher = self._new_publisher()
        await self._held.enter_async_context(self._publisher)

    def _new_publisher(self) -> Publisher:
        return Publisher(
            self._settings.kafka_url,
            self._settings.publish_timeout_seconds,
            self.routes,
            self._batch_bytes,
        )
