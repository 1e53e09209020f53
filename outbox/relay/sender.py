"""Sender: sends a page to Kafka, and finds out which of its records Kafka refuses for good.

A broker refuses a whole batch because of one record. The sender halves a refused batch until that
record is alone, sets its key aside, and goes on with the others. Each time it uses a new producer,
because the old one is not safe to use any more.
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

# aiokafka counts the records of a partition in 31 bits and fails when they are used up.
RECORDS_PER_PRODUCER = 1 << 30


class PublishingLease(Protocol):
    """What a sender needs of a lease: whether it may publish, and for how long that is certain.

    outbox.cursor.lease.Lease is one, and the lease of a replay is another.
    """

    def require(self) -> None:
        """Raise LeaseLost unless it is certain that the lease goes on."""

    def remaining(self) -> float:
        """Return for how many seconds the lease certainly goes on."""


@dataclass(slots=True)
class SendResult:
    """What became of a page.

    Each record is in one of `deliveries` (acknowledged), `refused` (one record a key), or `waiting`
    (behind a refused one of its key).
    """

    deliveries: list[Delivery] = field(default_factory=list)
    refused: dict[Stream, RefusedRecord] = field(default_factory=dict)
    waiting: list[Record] = field(default_factory=list)

    def refuse(self, record: Record, reason: str) -> None:
        """Add a refused record. The first one parks its key, and later ones wait behind it."""
        if read_stream(record) in self.refused:
            self.waiting.append(record)
        else:
            self.refused[read_stream(record)] = RefusedRecord(record, reason)

    def keep_flowing(self, records: Iterable[Record]) -> list[Record]:
        """Return the records whose key is not set aside; the others are added to `waiting`."""
        kept: list[Record] = []
        for record in records:
            aside = read_stream(record) in self.refused
            (self.waiting if aside else kept).append(record)
        return kept


class Sender:
    """Sends one page at a time. It owns the publisher, and replaces it after every refusal.

    `partitions` are the recorded partition counts of the topics, and `renew` renews the lease
    between attempts. `routes.counts` has the counts that were used; the caller records the new ones
    among them.
    """

    def __init__(
        self,
        settings: Settings,
        lease: PublishingLease,
        partitions: dict[str, int],
        renew: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._lease = lease
        self._renew = renew
        self.routes = TopicPartitions(partitions, settings.publish_timeout_seconds)
        self._batch_bytes: dict[str, int] = {}
        self._open_publisher = AsyncExitStack()
        self._publisher = self._new_publisher()

    async def __aenter__(self) -> Self:
        await self._open_publisher.enter_async_context(self._publisher)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open_publisher.aclose()

    async def pack(self, records: Iterable[Record]) -> Packed:
        """Put the records into batches, which `send_all` takes."""
        return await self._publisher.prepare(records)

    async def send_all(self, packed: Packed) -> SendResult:
        """Send a page, until each of its records is acknowledged, refused, or waits behind one.

        It raises LeaseLost or DependencyDown where that does not succeed; both end the term.
        """
        result = SendResult()
        for refused in packed.refused:
            result.refuse(refused.record, refused.reason)
        batches = packed.batches
        await self._renew()
        while batches:
            outcome = await self._publish(batches)
            result.deliveries += outcome.deliveries
            batches = await self._pack_rest(outcome.refused, result)
        if self._publisher.sent > RECORDS_PER_PRODUCER:
            await self._replace_publisher()
        return result

    async def _publish(self, batches: Sequence[Batch]) -> SendOutcome:
        failpoint(Failpoint.BATCHES_PACKED)
        self._lease.require()
        publishing = self._publisher.publish(batches, self._lease.remaining())
        return await while_waiting(Failpoint.BATCHES_SENT, publishing)

    async def _pack_rest(self, refused: Sequence[RefusedBatch], result: SendResult) -> list[Batch]:
        """Return the batches that are left to send after these refusals.

        They are smaller than the refused ones, and without the keys that were set aside.
        """
        if not refused:
            return []
        groups = [group for each in refused for group in self._narrow(each, result)]
        await self._renew()
        await self._replace_publisher()
        left: list[Batch] = []
        for group in groups:
            packed = await self._publisher.prepare(result.keep_flowing(group))
            for lost in packed.refused:
                result.refuse(lost.record, lost.reason)
            left += packed.batches
        return left

    def _narrow(self, refused: RefusedBatch, result: SendResult) -> list[list[Record]]:
        records, behind = refused.batch.records, [batch.records for batch in refused.behind]
        log.warning(
            "refused", topic=refused.batch.topic, reason=refused.reason, messages=len(records)
        )
        if refused.whole_topic:
            for record in (*records, *(record for group in behind for record in group)):
                result.refuse(record, refused.reason)
            return []
        if len(records) == 1:
            result.refuse(records[0], refused.reason)
            return behind
        if refused.reason == TOO_LARGE:
            self._batch_bytes[refused.batch.topic] = refused.batch.builder.size() // 2
        middle = len(records) // 2
        return [records[:middle], records[middle:], *behind]

    async def _replace_publisher(self) -> None:
        await self._open_publisher.aclose()
        self._publisher = self._new_publisher()
        await self._open_publisher.enter_async_context(self._publisher)

    def _new_publisher(self) -> Publisher:
        return Publisher(
            self._settings.kafka_url,
            self._settings.publish_timeout_seconds,
            self.routes,
            self._batch_bytes,
        )
