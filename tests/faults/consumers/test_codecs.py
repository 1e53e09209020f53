"""FC1: every codec of Kafka is read, and a batch that is too large to inflate is reported.

It runs on real Kafka only. The producer is librdkafka, which packs batches with code of its own.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from consumers.runner import membership
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.errors import Unreadable
from outbox.kafka import Record, Tail, read_group_progress
from outbox.kafka.reader import Reader
from schemas.wire import encode
from tests.kit.captured import captured
from tests.kit.consumers.notes import Notes, behind, committed, send
from tests.kit.load.roles import running
from tests.kit.load.stream import event
from tests.kit.verdicts.history import TOPIC
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300), pytest.mark.usefixtures("real_kafka")]

# mypy: disable-error-code="attr-defined"
# (confluent_kafka re-exports the names of its admin client without saying so)

WITHIN_SECONDS = 90.0
CODECS = ("gzip", "snappy", "lz4", "zstd")
LIMIT = 256 * 1024
BOMB = b"\0" * (8 * 1024 * 1024)


@pytest.fixture(autouse=True)
def packed_topic(kafka_url: str, real_kafka: None) -> None:
    """Set the topic so that the broker keeps each batch as its producer has packed it."""
    del real_kafka
    entry = ConfigEntry("compression.type", "producer", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": kafka_url})
    for altered in admin.incremental_alter_configs([resource]).values():
        altered.result(20)


async def send_packed(settings: Settings, codec: str, records: Sequence[Record]) -> None:
    """Send all records in one batch; the producer drops a codec that does not make it smaller.

    A broker learns of a topic's setting a moment after the controller has taken it. Until then it
    unpacks the batch and refuses it as too large, so the batch is sent again.
    """
    async with asyncio.timeout(WITHIN_SECONDS):
        while refusals := await asyncio.to_thread(try_to_send, settings, codec, records):
            assert set(refusals) == {KafkaError.MSG_SIZE_TOO_LARGE}, refusals
            await asyncio.sleep(0.1)


def try_to_send(settings: Settings, codec: str, records: Sequence[Record]) -> list[int]:
    """Send the records once, and return the error codes of those that were refused."""
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka_url,
            "compression.type": codec,
            "partitioner": "murmur2_random",
            "linger.ms": 50,
            "message.max.bytes": 2 * len(BOMB),
        }
    )
    refusals: list[int] = []

    def note(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            refusals.append(error.code())

    for record in records:
        headers: list[Any] = list(record.headers)
        producer.produce(record.topic, record.value, record.key, headers=headers, on_delivery=note)
    assert not producer.flush(WITHIN_SECONDS)
    return refusals


def records(first: int, last: int) -> list[Record]:
    return [Record(0, TOPIC, *encode(event("k", version))) for version in range(first, last)]


def ids(first: int, last: int) -> list[str]:
    return [f"k@{version}" for version in range(first, last)]


async def test_records_of_every_codec_are_applied_in_order(settings: Settings) -> None:
    notes = Notes()
    async with running(Runner(settings, notes)):
        for number, codec in enumerate(CODECS):
            await send_packed(settings, codec, records(number * 100, number * 100 + 100))
        await until(lambda: notes.has("k@399"), WITHIN_SECONDS)
        await until(lambda: committed(settings), WITHIN_SECONDS)
    assert notes.of_key("k") == ids(0, 400)
    async with Reader(settings.kafka_url, [TOPIC], WITHIN_SECONDS) as reader:
        read = [len(some) async for _, some in reader.read(await reader.read_ranges())]
    assert sum(read) == 400


@pytest.mark.parametrize("codec", CODECS)
async def test_a_batch_that_inflates_to_more_than_the_limit_is_told_by_every_reader(
    codec: str, settings: Settings
) -> None:
    """Nothing is skipped: with a higher limit the batch is read, and what is behind it too."""
    low = settings.model_copy(update={"inflated_batch_bytes": LIMIT})
    notes = Notes()
    async with Tail(low.kafka_url, [TOPIC], WITHIN_SECONDS, LIMIT) as tail:
        with captured(membership) as logs:
            async with running(Runner(low, notes)):
                await send(settings, event("k", 0))
                await send_packed(settings, codec, [Record(0, TOPIC, b"k", BOMB, [])])
                await send(settings, event("k", 1))
                await until(lambda: stands_still(logs), WITHIN_SECONDS)
                assert await behind(settings) == 2
        with pytest.raises(Unreadable, match=f"offset 1 on .{codec}: .* more than {LIMIT} bytes"):
            async with asyncio.timeout(WITHIN_SECONDS):
                while True:
                    await tail.next_records(100, 100)
    (said, *_) = [each for each in logs if each["event"] == "partition stands still"]
    assert (said["topic"], said["offset"]) == (TOPIC, 1)
    assert f"{codec}: a batch inflates to more than {LIMIT} bytes" in said["error"]
    progress = await read_group_progress(low.kafka_url, f"aftercommit.{Notes.name}", 30.0, LIMIT)
    (still,) = [each for each in progress if each.stands_still]
    assert (still.topic, still.committed, still.behind) == (TOPIC, 1, 2)
    assert f"offset 1 on ({codec}: a batch inflates to more than" in still.stands_still
    async with Reader(low.kafka_url, [TOPIC], WITHIN_SECONDS, LIMIT) as reader:
        with pytest.raises(Unreadable, match=f"{TOPIC}/.*offset 1 on .{codec}: "):
            _ = [some async for some in reader.read(await reader.read_ranges())]
    assert notes.applied == ["k@0"]
    async with Reader(settings.kafka_url, [TOPIC], WITHIN_SECONDS) as reader:
        spans = await reader.read_ranges()
        read = [each.offset async for _, some in reader.read(spans) for each in some]
    assert read == [0, 1, 2]


async def stands_still(logs: Sequence[object]) -> bool:
    return any(dict(each)["event"] == "partition stands still" for each in logs)  # type: ignore[call-overload] # a dict
