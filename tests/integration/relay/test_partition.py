"""A key goes to the partition where every other Kafka client looks for it."""

import asyncio
import random

import pytest
from confluent_kafka import Message, Producer

from outbox.kafka import Publisher, Record, partition_of

pytestmark = pytest.mark.anyio

RNG = random.Random(20)
KEYS = [b"k", b"airports/JFK", "ключ/é😀".encode(), b"\x00", b"\xff\xfe\xfd", b"x" * 1_000]
KEYS += [RNG.randbytes(RNG.randrange(1, 40)) for _ in range(200)]


def produced_by_librdkafka(bootstrap: str, topic: str) -> dict[bytes, int]:
    """Return where librdkafka puts each key, with the partitioner of the Java client."""
    placed: dict[bytes, int] = {}

    def delivered(error: object, message: Message) -> None:
        assert error is None
        key, partition = message.key(), message.partition()
        assert isinstance(key, bytes)
        assert partition is not None
        placed[key] = partition

    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
    for key in KEYS:
        producer.produce(topic, key=key, value=b"{}", on_delivery=delivered)
    assert producer.flush(20) == 0
    return placed


async def test_every_key_goes_where_librdkafka_puts_it(kafka_url: str) -> None:
    theirs = await asyncio.to_thread(produced_by_librdkafka, kafka_url, "test.theirs")
    assert theirs.keys() == set(KEYS)
    partitions = 4  # of the broker's topics
    assert set(theirs.values()) == set(range(partitions))
    assert {key: partition_of(key, partitions) for key in theirs} == theirs


async def test_the_publisher_sends_each_key_there(kafka_url: str) -> None:
    theirs = await asyncio.to_thread(produced_by_librdkafka, kafka_url, "test.theirs")
    async with Publisher(kafka_url, 10.0) as publisher:
        for position, (key, partition) in enumerate(theirs.items(), start=1):
            record = Record(position, "test.ours", key, b"{}", [])
            (delivery,) = await publisher.send([record])
            assert delivery.partition == partition


def test_few_partitions_are_all_used_and_none_beyond_them() -> None:
    for partitions in (1, 2, 3, 7, 100):
        used = {partition_of(b"%d" % n, partitions) for n in range(5_000)}
        assert used == set(range(partitions))
