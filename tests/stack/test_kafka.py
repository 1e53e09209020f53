"""Apache Kafka itself: started from its jars, durable over a kill, and strict about topics.

The tests are skipped where Maven or Java is missing, unless they must be there
(tests/kit/servers/jars.py).
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from outbox.errors import DependencyDown, NotPossible
from outbox.kafka import ConsumerRecord, Publisher, Record, Subscriber, count_records, create_topics
from schemas.registry import REGISTRY
from stack.process import process_tree
from stack.servers.broker import broker
from stack.servers.kafka import POM, KafkaServer
from stack.servers.port import LOOPBACK
from stack.settings import StackSettings
from tests.kit.servers.jars import required_jars
from tests.kit.servers.sockets import listeners
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

TOPIC = "test.thing.events"
KEYS = 7
WITHIN_SECONDS = 30.0


@pytest.fixture
async def settings(settings: StackSettings) -> StackSettings:
    real = settings.model_copy(update={"kafka_provider": "maven"})
    await required_jars(POM, real)
    return real


@pytest.fixture
async def server(folder: Path, settings: StackSettings) -> AsyncIterator[KafkaServer]:
    async with KafkaServer(folder, settings) as running:
        yield running


def records(first: int, last: int) -> list[Record]:
    return [Record(n, TOPIC, b"key-%d" % (n % KEYS), b"%d" % n, []) for n in range(first, last)]


def subscriber(url: str, group: str) -> Subscriber:
    return Subscriber(url, group, [TOPIC], 3_000, 1 << 20)


async def received(reader: Subscriber, count: int) -> list[ConsumerRecord]:
    found: list[ConsumerRecord] = []
    async with asyncio.timeout(WITHIN_SECONDS):
        while len(found) < count:
            for some in (await reader.receive(1_000, 100)).values():
                found += some
    return found


async def test_it_is_the_real_one_on_loopback_only_and_gone_afterwards(
    folder: Path, settings: StackSettings
) -> None:
    async with broker(folder, settings) as part:
        assert part.provider.startswith("Apache Kafka 4.")
        assert not part.stand_in
        assert part.url.startswith(f"{LOOPBACK}:")
        assert part.pid is not None
        assert listeners(part.pid) == {"0100007F"}
        assert await create_topics(part.url, [TOPIC], 4) == [TOPIC]
        assert process_tree.descendants(part.pid) == []
    assert process_tree.parent_of(part.pid) is None


async def test_what_it_acknowledged_survives_a_kill_in_order_and_at_the_same_address(
    server: KafkaServer,
) -> None:
    before = server.part
    await create_topics(server.url, [TOPIC], 4)
    async with Publisher(server.url, 10.0) as publisher:
        for first in range(0, 1_000, 100):
            await publisher.send(records(first, first + 100))
    await server.kill()
    assert server.pid is None
    await server.start()
    assert (server.url, server.pid != before.pid) == (before.url, True)
    async with Publisher(server.url, 10.0) as publisher:
        await publisher.send(records(1_000, 1_100))
    async with subscriber(server.url, "reader") as reader:
        found = await received(reader, 1_100)
    assert sorted(int(record.value or b"") for record in found) == list(range(1_100))
    for key in range(KEYS):
        of_key = [int(r.value or b"") for r in found if r.key == b"key-%d" % key]
        assert of_key == sorted(of_key)


async def test_data_is_kept_for_another_server_on_the_same_folder(
    folder: Path, settings: StackSettings
) -> None:
    async with KafkaServer(folder, settings) as first:
        await create_topics(first.url, [TOPIC], 4)
        async with Publisher(first.url, 10.0) as publisher:
            await publisher.send(records(0, 10))
    async with KafkaServer(folder, settings) as second:
        assert await count_records(second.url, [TOPIC]) == {TOPIC: 10}


async def test_topics_are_made_on_request_only(server: KafkaServer) -> None:
    async with Publisher(server.url, 1.0) as publisher:
        with pytest.raises(DependencyDown, match=TOPIC):
            await publisher.send(records(0, 1))
    assert await count_records(server.url, [TOPIC]) == {TOPIC: 0}
    assert await create_topics(server.url, [TOPIC], 2) == [TOPIC]
    assert await create_topics(server.url, ["test.other.events", TOPIC], 4) == ["test.other.events"]
    async with Publisher(server.url, 10.0) as publisher:
        deliveries = await publisher.send(records(0, 100))
    assert {delivery.partition for delivery in deliveries} == {0, 1}
    with pytest.raises(NotPossible, match="InvalidReplicationFactor"):
        await create_topics(server.url, ["test.third.events"], 4, replication=3)


async def test_a_publisher_that_gave_up_leaves_nothing_that_comes_later(
    server: KafkaServer,
) -> None:
    await create_topics(server.url, [TOPIC], 1)
    before = asyncio.all_tasks()
    with pytest.raises(DependencyDown):
        async with Publisher(server.url, 1.0) as publisher:
            await publisher.send(records(0, 1))
            await server.kill()
            await publisher.send(records(1, 2))
    assert asyncio.all_tasks() <= before
    await server.start()
    async with Publisher(server.url, 10.0) as publisher:
        await publisher.send(records(1, 3))
    async with subscriber(server.url, "reader") as reader:
        found = await received(reader, 3)
        assert await reader.receive(1, 1_000) == {}
    assert [record.value for record in found] == [b"0", b"1", b"2"]


async def test_the_command_makes_the_topics_of_the_registry_once(server: KafkaServer) -> None:
    names = REGISTRY.topics()
    assert await topics_command(server.url) == {"created": names, "existing": []}
    assert await topics_command(server.url) == {"created": [], "existing": names}


async def topics_command(url: str) -> object:
    """Return what `python -m outbox topics --json` prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "outbox", "topics", "--partitions=2", "--json",
        env=os.environ | {"KAFKA_URL": url}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(output)


async def test_two_members_of_a_group_share_the_partitions(server: KafkaServer) -> None:
    await create_topics(server.url, [TOPIC], 4)
    async with AsyncExitStack() as exits:
        first = await exits.enter_async_context(subscriber(server.url, "pair"))
        async with subscriber(server.url, "pair") as second:
            await until(lambda: shared([2, 2], first, second), WITHIN_SECONDS)
            assert not first.assigned() & second.assigned()
        await until(lambda: shared([4], first), WITHIN_SECONDS)


async def shared(expected: list[int], *members: Subscriber) -> bool:
    """Return whether the members have so many partitions each, by their own account."""
    return [len(member.assigned()) for member in members] == expected
