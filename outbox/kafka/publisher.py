"""Publisher: records to Kafka, in batches of one partition, each acknowledged."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from outbox.errors import DependencyDown
from outbox.kafka.edge import abandon, broker_errors
from schemas.wire import Headers

BATCH_BYTES = 900 * 1024 + 64 * 1024  # below the broker's default of 1 MiB for a batch
KNOWN_PARTITIONS = 200_000  # keys whose partition is remembered; murmur2 in Python is slow


class Record(NamedTuple):
    """One record to publish; `position` is what its acknowledgement is reported by."""

    position: int
    topic: str
    key: bytes
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Delivery:
    """An acknowledged batch: where Kafka put which positions."""

    topic: str
    partition: int
    first_offset: int
    messages: int
    first_position: int
    last_position: int

    @property
    def last_offset(self) -> int:
        return self.first_offset + self.messages - 1


@dataclass(slots=True)
class Batch:
    """Records of one partition in one builder, in order."""

    topic: str
    partition: int
    builder: BatchBuilder
    first_position: int
    last_position: int


class Publisher:
    """One idempotent producer with acks from all replicas.

    Order: `publish` sends the batches of one partition one after another and the caller awaits one
    `publish` before the next. After any error or timeout this publisher must be thrown away and a
    new one must start from the first unacknowledged record: aiokafka's producer is not safe to go
    on with. A batch that was given up may still arrive later, as a duplicate.
    """

    def __init__(self, bootstrap: str, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._bootstrap = bootstrap
        self._producer: AIOKafkaProducer | None = None
        self._partitions: dict[tuple[str, bytes], int] = {}
        self._counts: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        with broker_errors():
            async with asyncio.timeout(self._timeout):
                self._producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=0,
                    max_batch_size=BATCH_BYTES,
                    request_timeout_ms=round(self._timeout * 1000),
                )
                await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await abandon(producer)

    async def prepare(self, records: Iterable[Record]) -> list[Batch]:
        """Pack records into batches, ready to send; the order within a key is kept."""
        batches: list[Batch] = []
        open_batches: dict[tuple[str, int], Batch] = {}
        for record in records:
            partition = self._partitions.get((record.topic, record.key))
            if partition is None:
                partition = await self._find_partition(record.topic, record.key)
            batch = open_batches.get((record.topic, partition))
            if batch is None or not _append(batch, record):
                batch = self._open(record, partition)
                open_batches[record.topic, partition] = batch
                batches.append(batch)
        return batches

    async def send(self, records: Iterable[Record]) -> list[Delivery]:
        """Prepare and publish, for programs that have no outbox."""
        return await self.publish(await self.prepare(records), self._timeout)

    async def publish(self, batches: Sequence[Batch], within_seconds: float) -> list[Delivery]:
        """Send prepared batches and await every acknowledgement; DependencyDown otherwise."""
        lanes: dict[tuple[str, int], list[Batch]] = {}
        for batch in batches:
            lanes.setdefault((batch.topic, batch.partition), []).append(batch)
        with broker_errors():
            async with asyncio.timeout(min(within_seconds, self._timeout)):
                sent = await asyncio.gather(*map(self._send_in_order, lanes.values()))
        return [delivery for lane in sent for delivery in lane]

    async def _send_in_order(self, lane: list[Batch]) -> list[Delivery]:
        """One at a time: a later batch must never overtake one that failed."""
        return [await self._send(batch) for batch in lane]

    async def _send(self, batch: Batch) -> Delivery:
        assert self._producer is not None  # noqa: S101 - inside `async with`
        messages = batch.builder.record_count()
        batch.builder.close()
        acknowledged = await self._producer.send_batch(
            batch.builder, batch.topic, partition=batch.partition
        )
        metadata = await acknowledged
        return Delivery(
            batch.topic,
            batch.partition,
            metadata.offset,
            messages,
            batch.first_position,
            batch.last_position,
        )

    def _open(self, record: Record, partition: int) -> Batch:
        assert self._producer is not None  # noqa: S101 - inside `async with`
        builder = self._producer.create_batch()
        batch = Batch(record.topic, partition, builder, record.position, record.position)
        if not _append(batch, record):
            raise ValueError(f"position {record.position} does not fit into an empty batch")
        return batch

    async def _find_partition(self, topic: str, key: bytes) -> int:
        count = self._counts.get(topic) or await self._count_partitions(topic)
        if len(self._partitions) >= KNOWN_PARTITIONS:
            self._partitions.clear()
        partition = partition_of(key, count)
        self._partitions[topic, key] = partition
        return partition

    async def _count_partitions(self, topic: str) -> int:
        assert self._producer is not None  # noqa: S101 - inside `async with`
        with broker_errors():
            try:
                async with asyncio.timeout(self._timeout):
                    count = len(await self._producer.partitions_for(topic))
            except TimeoutError as error:
                raise DependencyDown("kafka", f"no word of topic {topic}: is it there?") from error
        self._counts[topic] = count
        return count


def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's Java client, and so every other, puts `key`."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


def _append(batch: Batch, record: Record) -> bool:
    appended = batch.builder.append(
        timestamp=None, key=record.key, value=record.value, headers=record.headers
    )
    if appended is None:
        return False
    batch.last_position = record.position
    return True
