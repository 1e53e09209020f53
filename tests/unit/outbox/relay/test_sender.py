"""R7: whatever a broker refuses, every record is accounted for once, in key order.

The broker is a stand-in behind the interface of Publisher.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.cursor.lease import Lease
from outbox.kafka import (
    Batch,
    Delivery,
    Packed,
    Publisher,
    Record,
    RefusedBatch,
    SendOutcome,
    read_stream,
)
from outbox.relay import sender
from outbox.relay.parked_keys import collect_unacknowledged
from outbox.relay.sender import Sender, SendResult
from outbox.settings import Settings

PARTITIONS = 2


class Broker:
    """A log of positions for each partition, which refuses some of them and large batches."""

    def __init__(self, poison: set[int], limit: int) -> None:
        self.poison, self.limit = poison, limit
        self.log: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}

    def takes(self, batch: Batch) -> bool:
        poisoned = any(record.position in self.poison for record in batch.records)
        return not poisoned and len(batch.records) <= self.limit


class BrokerPublisher:
    """A publisher of that broker; after a refusal it cannot be used, like aiokafka's producer."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._wedged = False
        self.sent = 0

    async def __aenter__(self) -> "BrokerPublisher":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def prepare(self, records: Sequence[Record]) -> Packed:
        batches: dict[int, Batch] = {}
        for record in records:
            partition = record.key[-1] % PARTITIONS
            empty = Batch("t", partition, cast(Any, Sized()), [])
            batches.setdefault(partition, empty).records.append(record)
        return Packed(list(batches.values()), [])

    async def publish(self, batches: Sequence[Batch], within_seconds: float) -> SendOutcome:
        assert within_seconds > 0
        assert not self._wedged, "this producer met a refusal"
        by_partition: dict[int, list[Batch]] = {}
        for batch in batches:
            by_partition.setdefault(batch.partition, []).append(batch)
        outcome = SendOutcome()
        for queue in by_partition.values():
            self._drive(queue, outcome)
        self._wedged = bool(outcome.refused)
        return outcome

    def _drive(self, queue: list[Batch], outcome: SendOutcome) -> None:
        for number, batch in enumerate(queue, start=1):
            positions = [record.position for record in batch.records]
            if not self._broker.takes(batch):
                outcome.refused.append(
                    RefusedBatch(batch, queue[number:], "policy-violated", False)
                )
                return
            self._broker.log[batch.partition] += positions
            self.sent += len(positions)
            delivery = Delivery(
                "t", batch.partition, 0, len(positions), positions[0], positions[-1]
            )
            outcome.deliveries.append(delivery)


class Sized:
    def size(self) -> int:
        return 100


class SenderToBroker(Sender):
    """The real sender, with publishers of that broker."""

    def __init__(self, broker: Broker, lease: Lease) -> None:
        self._broker = broker
        self.publishers = 0
        super().__init__(Settings(), lease, {}, nothing)

    def _new_publisher(self) -> Publisher:
        self.publishers += 1
        return cast(Publisher, BrokerPublisher(self._broker))


async def nothing() -> None: ...


def test_a_producer_is_replaced_long_before_its_sequence_numbers_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R11: aiokafka counts a partition's records in 31 bits."""
    assert sender.RECORDS_PER_PRODUCER <= 2**30
    monkeypatch.setattr(sender, "RECORDS_PER_PRODUCER", 25)
    broker = Broker(set(), 100)
    records = [Record(n, "t", b"k1", b"", [], b"a") for n in range(10)]
    assert asyncio.run(send_again(broker, records, times=9)) == 4
    assert broker.log[1] == list(range(10)) * 9


async def send_again(broker: Broker, records: Sequence[Record], times: int) -> int:
    """Send the records several times; return how many publishers that took."""
    lease = Lease("me", 1, 60.0, 0.0, lambda: 0.0)
    async with SenderToBroker(broker, lease) as sending:
        for _ in range(times):
            await sending.send_all(await sending.pack(records))
        return sending.publishers


async def send_all(broker: Broker, records: Sequence[Record]) -> SendResult:
    lease = Lease("me", 1, 60.0, 0.0, lambda: 0.0)
    async with SenderToBroker(broker, lease) as sending:
        return await sending.send_all(await sending.pack(records))


@given(
    keys=st.lists(st.integers(0, 5), max_size=40),
    poison=st.sets(st.integers(0, 39), max_size=6),
    limit=st.integers(1, 40),
)
def test_every_record_is_delivered_refused_or_behind_a_refused_one(
    keys: list[int], poison: set[int], limit: int
) -> None:
    records = [Record(n, "t", b"k%d" % key, b"", [], b"a") for n, key in enumerate(keys)]
    broker = Broker(poison, limit)
    result = asyncio.run(send_all(broker, records))

    delivered = [position for log in broker.log.values() for position in log]
    left = [record.position for record in collect_unacknowledged(result)]
    assert Counter([*delivered, *left]) == Counter(range(len(records)))
    assert sum(delivery.messages for delivery in result.deliveries) == len(delivered)

    first_poison = {
        read_stream(record): record.position
        for record in reversed(records)
        if record.position in poison
    }
    refused = {stream: each.record.position for stream, each in result.refused.items()}
    assert refused == first_poison
    for record in records:
        behind = record.position >= first_poison.get(read_stream(record), len(records))
        assert (record.position in left) == behind
    for log in broker.log.values():
        assert log == sorted(log)
