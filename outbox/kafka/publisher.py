"""Publisher: sends records to Kafka in batches of one partition, each acknowledged or refused."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from aiokafka import AIOKafkaProducer

from outbox.errors import DependencyDown
from outbox.kafka.batch import RecordBatch, encode_headers
from outbox.kafka.errors import (
    REFUSALS,
    abandon_producer,
    broker_errors,
    read_reason,
    start_client,
)
from outbox.kafka.records import Delivery, Record, RefusedRecord
from outbox.kafka.topic_partitions import TopicPartitions, partition_of
from outbox.runtime.pages import paginate

BATCH_BYTES = 900 * 1024 + 64 * 1024  # below the broker's default of 1 MiB for a batch
SLICE = 500  # records between two turns of the event loop; packing them takes about 1 ms
KNOWN_PLACES = 200_000  # keys whose partition is remembered; murmur2 in Python is slow


class Place(NamedTuple):
    """The topic and partition that the records of a key go to."""

    topic: str
    partition: int


@dataclass(slots=True)
class Batch:
    """Records of one partition, in order, and the builder that holds their bytes."""

    topic: str
    partition: int
    builder: RecordBatch
    records: list[Record]


@dataclass(frozen=True, slots=True)
class Packed:
    """Batches that are ready to send, and the records whose topic cannot be published to."""

    batches: list[Batch]
    refused: list[RefusedRecord]


@dataclass(frozen=True, slots=True)
class RefusedBatch:
    """A batch of which Kafka refused at least one record.

    `behind` are its partition's later batches, which were not sent. With `whole_topic` the refusal
    holds for every record of the topic.
    """

    batch: Batch
    behind: list[Batch]
    reason: str
    whole_topic: bool


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """The result of sending; after a refusal, a partition's later batches were not sent."""

    deliveries: list[Delivery] = field(default_factory=list)
    refused: list[RefusedBatch] = field(default_factory=list)


class Publisher:
    """One idempotent producer with acks from all replicas.

    Order: `publish` sends the batches of one partition one after another, and the caller awaits one
    `publish` before the next. After any error, timeout or refusal this publisher must be thrown
    away and a new one must start from the first unacknowledged record: aiokafka's producer is not
    safe to go on with. A batch that was given up may still arrive later, as a duplicate.

    `routes` may be handed on to the next publisher, so that topics are not asked for again.
    `batch_bytes` limits the batches of a topic that needs them smaller than BATCH_BYTES.
    Entering raises DependencyDown where no broker answers within `timeout_seconds`.
    """

    def __init__(
        self,
        bootstrap: str,
        timeout_seconds: float,
        routes: TopicPartitions | None = None,
        batch_bytes: Mapping[str, int] | None = None,
    ) -> None:
        self._timeout = timeout_seconds
        self._bootstrap = bootstrap
        self._producer: AIOKafkaProducer | None = None
        self._places: dict[tuple[str, bytes], Place] = {}
        self._routes = routes or TopicPartitions({}, timeout_seconds)
        self._batch_bytes = batch_bytes or {}
        self.sent = 0

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
                try:
                    await start_client(self._producer)
                except BaseException:
                    # Given up half-way, it would go on asking for metadata from its own task.
                    await self.__aexit__()
                    raise
        return self

    async def __aexit__(self, *_: object) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await abandon_producer(producer)

    async def prepare(self, records: Iterable[Record]) -> Packed:
        """Pack records into batches that are ready to send. The order within a key is kept.

        It works in slices, so that requests on their way to the broker get their turns of the event
        loop. DependencyDown where the broker does not answer about a new topic in time.
        """
        assert self._producer is not None  # noqa: S101 - inside `async with`
        client = self._producer.client
        made = [record async for part in _split_into_slices(records) for record in part]
        topics = {record.topic for record in made}
        await self._routes.learn(client, topics)
        # The refusals are read once for the whole call: a key's later record must not overtake
        # an earlier one that is refused.
        packing = _Packing(self._routes.read_refusals(topics))
        async for part in _split_into_slices(made):
            self._pack(part, packing)
        return packing.packed

    def _pack(self, records: list[Record], packing: "_Packing") -> None:
        places, open_batches = self._places, packing.open_batches
        for record in records:  # the hot path: the usual case is written out here
            place = places.get((record.topic, record.key))
            batch = open_batches.get(place) if place is not None else None
            if batch is None or not _append(batch, record):
                self._start_batch(record, place, packing)

    async def send(self, records: Iterable[Record]) -> list[Delivery]:
        """Prepare and publish, for programs without an outbox; DependencyDown if any is refused."""
        packed = await self.prepare(records)
        outcome = await self.publish(packed.batches, self._timeout)
        refused = {f"{r.record.topic}: {r.reason}" for r in packed.refused}
        refused |= {f"{r.batch.topic}: {r.reason}" for r in outcome.refused}
        if refused:
            raise DependencyDown("kafka", f"refused: {', '.join(sorted(refused))}")
        return outcome.deliveries

    async def publish(self, batches: Sequence[Batch], within_seconds: float) -> SendOutcome:
        """Send prepared batches; each is acknowledged, refused, or behind a refused one.

        DependencyDown after `within_seconds`, or after the publisher's own timeout if shorter.
        """
        queues: dict[tuple[str, int], list[Batch]] = {}
        for batch in batches:
            queues.setdefault((batch.topic, batch.partition), []).append(batch)
        outcome = SendOutcome()
        with broker_errors():
            async with asyncio.timeout(min(within_seconds, self._timeout)):
                await asyncio.gather(*(self._send_in_order(q, outcome) for q in queues.values()))
        return outcome

    async def _send_in_order(self, queue: list[Batch], outcome: SendOutcome) -> None:
        """Send one batch at a time: a later batch must never overtake one that failed."""
        for number, batch in enumerate(queue, start=1):
            try:
                outcome.deliveries.append(await self._send(batch))
            except REFUSALS as error:
                reason, whole_topic = read_reason(error)
                refused = RefusedBatch(batch, queue[number:], reason, whole_topic)
                outcome.refused.append(refused)
                return

    async def _send(self, batch: Batch) -> Delivery:
        assert self._producer is not None  # noqa: S101 - inside `async with`
        batch.builder.close()
        acknowledged = await self._producer.send_batch(
            batch.builder, batch.topic, partition=batch.partition
        )
        metadata = await acknowledged
        records = batch.records
        self.sent += len(records)
        return Delivery(
            batch.topic,
            batch.partition,
            metadata.offset,
            len(records),
            records[0].position,
            records[-1].position,
        )

    def _start_batch(self, record: Record, place: Place | None, packing: "_Packing") -> None:
        """Begin a new batch with the record, or refuse it where its topic takes nothing."""
        if (reason := packing.refusals.get(record.topic)) is not None:
            packing.packed.refused.append(RefusedRecord(record, reason))
            return
        place = place or self._find_place(record)
        batch = packing.open_batches.get(place)
        if batch is not None and _append(batch, record):
            return  # its partition had a batch already; only its key was new
        limit = self._batch_bytes.get(record.topic, BATCH_BYTES)
        batch = Batch(*place, RecordBatch(limit), [])
        _append(batch, record)
        packing.open_batches[place] = batch
        packing.packed.batches.append(batch)

    def _find_place(self, record: Record) -> Place:
        if len(self._places) >= KNOWN_PLACES:
            self._places.clear()
        partition = partition_of(record.key, self._routes.counts[record.topic])
        place = Place(record.topic, partition)
        self._places[record.topic, record.key] = place
        return place


@dataclass(frozen=True, slots=True)
class _Packing:
    """What one call of `prepare` has made; `refusals` are topics that take nothing, and why."""

    refusals: Mapping[str, str]
    packed: Packed = field(default_factory=lambda: Packed([], []))
    open_batches: dict[Place, Batch] = field(default_factory=dict)


async def _split_into_slices(records: Iterable[Record]) -> AsyncIterator[list[Record]]:
    """Yield SLICE records at a time, and give the event loop a turn after each whole slice."""
    for part in paginate(records, SLICE):
        yield part
        if len(part) == SLICE:
            await asyncio.sleep(0)


def _append(batch: Batch, record: Record) -> bool:
    """Add the record; return False where the batch is full. A first record always fits."""
    _, _, key, value, headers, _ = record
    encoded = headers if isinstance(headers, bytes) else encode_headers(headers)
    if not batch.builder.add(key, value, encoded):
        return False
    batch.records.append(record)
    return True
