"""Packing yields to the event loop; what it knows of topics holds from its first record on."""

import asyncio

import pytest

from outbox.kafka import Publisher, Record
from outbox.kafka.topic_partitions import TopicPartitions
from tests.kit.verdicts.history import TOPIC

pytestmark = pytest.mark.anyio

RECORDS = 2_000
PARTITIONS = 4
WITHIN_SECONDS = 30.0


class Changing(TopicPartitions):
    """A topic that is refused at first, and is there as soon as it is asked for again."""

    def __init__(self) -> None:
        super().__init__({}, 1.0)
        self.counts[TOPIC] = PARTITIONS
        self._refused[TOPIC] = ("topic-denied", float("inf"))


@pytest.mark.parametrize("after", range(10))
async def test_a_refusal_that_ends_meanwhile_does_not_split_a_key(
    kafka_url: str, after: int
) -> None:
    """R12: what was refused first is parked, and what follows of its key must not overtake it."""
    routes = Changing()
    records = (Record(n, TOPIC, b"k", b"v", []) for n in range(RECORDS))
    async with Publisher(kafka_url, WITHIN_SECONDS, routes) as publisher:
        packing = asyncio.create_task(publisher.prepare(records))
        turns = 0
        while not packing.done():
            await asyncio.sleep(0)
            turns += 1
            if turns > after:
                routes.forget_refusals()
    assert len(packing.result().refused) in (0, RECORDS)


async def test_others_have_their_turn_while_a_large_page_is_packed(kafka_url: str) -> None:
    """The batches on their way to the broker need the event loop meanwhile."""
    records = [Record(n, TOPIC, b"k%d" % (n % 100), b"v", []) for n in range(RECORDS)]
    async with Publisher(kafka_url, WITHIN_SECONDS) as publisher:
        await publisher.prepare(records[:1])  # the topic is known
        packing = asyncio.create_task(publisher.prepare(records))
        turns = 0
        while not packing.done():
            await asyncio.sleep(0)
            turns += 1
    assert turns >= 8  # four slices rendered, four packed
    packed = packing.result()
    assert [r.position for batch in packed.batches for r in batch.records if r.key == b"k7"] == [
        *range(7, RECORDS, 100)
    ]
