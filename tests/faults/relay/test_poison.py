"""R7, R12, R13: what Kafka refuses for good parks its key; every other key flows.

The mock broker refuses nothing, so these tests are skipped without a real one.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import TypeVar

import psycopg
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from consumers.settings import Settings
from outbox.operations import Operation
from outbox.relay.parked_repair import ParkedSelection, discard, list_parked, release
from outbox.relay.relay import Relay
from outbox.status import read_status
from tests.conftest import Servers
from tests.kit.load.roles import running
from tests.kit.verdicts.history import Seen, subscribe
from tests.kit.waiting import until

# mypy: disable-error-code="attr-defined"
# (confluent_kafka re-exports the names of its admin client without saying so)

pytestmark = pytest.mark.anyio

SMALL, DENIED, MISSING, GROWING = (
    f"poison.{name}.events" for name in ("small", "denied", "missing", "growing")
)
OPEN = "test.note.events"
LIMIT_BYTES = 20_000
PUBLISH = """
    SELECT outbox.publish('test.note', %(key)s, 'test.noted.v1',
                          jsonb_build_object('text', repeat('x', %(bytes)s)), topic => %(topic)s)
"""
WITHIN_SECONDS = 60.0

T = TypeVar("T", AclBinding, AclBindingFilter)


@pytest.fixture(autouse=True)
def admin(servers: Servers, kafka_url: str) -> Iterator[AdminClient]:
    """Make the topics that refuse; `emptied` removes them before the next test."""
    if not servers.real_kafka:
        pytest.skip("the mock broker refuses nothing")
    admin = AdminClient({"bootstrap.servers": kafka_url})
    limits = {"max.message.bytes": str(LIMIT_BYTES)}
    made = [NewTopic(SMALL, 4, 1, config=limits), NewTopic(DENIED, 4, 1), NewTopic(GROWING, 4, 1)]
    for future in admin.create_topics(made).values():
        future.result(20)
    yield admin
    with suppress(Exception):
        remove_rules(admin)


def acl(cls: type[T]) -> T:
    return cls(
        ResourceType.TOPIC, DENIED, ResourcePatternType.LITERAL,
        "User:ANONYMOUS", "*", AclOperation.WRITE, AclPermissionType.DENY,
    )  # fmt: skip


async def deny(admin: AdminClient) -> None:
    """Let nobody write to the topic; the broker learns of a rule a moment after the controller."""
    for future in admin.create_acls([acl(AclBinding)]).values():
        future.result(20)
    await until(partial(is_denied, admin, True), WITHIN_SECONDS)


async def allow(admin: AdminClient) -> None:
    remove_rules(admin)
    await until(partial(is_denied, admin, False), WITHIN_SECONDS)


def remove_rules(admin: AdminClient) -> None:
    for future in admin.delete_acls([acl(AclBindingFilter)]).values():
        future.result(20)


async def is_denied(admin: AdminClient, expected: bool) -> bool:
    """Return whether the broker knows of the rule, or knows of none where none is expected."""
    rules = await asyncio.to_thread(admin.describe_acls(acl(AclBindingFilter)).result, 20)
    return bool(rules) is expected


class Writer:
    """Publishes by SQL, and remembers what every reader must see in the end."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    async def publish(self, topic: str, key: str, size: int = 10) -> None:
        await self._connection.execute(PUBLISH, {"key": key, "bytes": size, "topic": topic})

    async def nothing_pending(self) -> bool:
        return (await read_status(self._connection)).pending == 0

    async def settled(self) -> None:
        await until(self.nothing_pending, WITHIN_SECONDS)

    async def parked(self) -> dict[str, tuple[str, int]]:
        """Return the reason and the messages of each parked key."""
        listed = await list_parked(self._connection)
        return {each.key: (each.reason, each.messages) for each in listed}


@pytest.fixture
async def writer(postgres: psycopg.AsyncConnection) -> Writer:
    return Writer(postgres)


def by_hand(action: str) -> Operation:
    return Operation("tester", action, "-", "the test says so")


async def seen_on(settings: Settings, topic: str, count: int) -> Seen:
    """Return what the topic holds, once it is `count` messages."""
    seen = Seen()
    task = asyncio.create_task(subscribe(settings, seen, [topic]))

    async def all_there() -> bool:
        return len(seen.order) >= count

    try:
        await until(all_there, WITHIN_SECONDS)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return seen


async def test_one_too_large_message_parks_its_key_and_everything_else_flows(
    settings: Settings, writer: Writer, postgres: psycopg.AsyncConnection
) -> None:
    """It is inside a page, of one partition and of many; released, it is refused again."""
    for number in range(200):
        await writer.publish(SMALL, f"k{number % 20}")
    await writer.publish(SMALL, "poison", LIMIT_BYTES + 1_000)
    for number in range(200):
        await writer.publish(SMALL, f"k{number % 20}")
        await writer.publish(SMALL, "poison")
    async with running(Relay(settings)):
        await writer.settled()
        assert await writer.parked() == {"poison": ("too-large", 201)}
        seen = await seen_on(settings, SMALL, 400)
        assert {key for key, _ in seen.order} == {f"k{n}" for n in range(20)}
        assert seen.reordered() == 0

        await release(postgres, ParkedSelection(), by_hand("parked release"))
        await until(lambda: attempted(postgres, 2), WITHIN_SECONDS)
        assert await writer.parked() == {"poison": ("too-large", 201)}
        await writer.publish(SMALL, "poison")
        await writer.settled()

        await discard(postgres, ParkedSelection(), by_hand("parked discard"))
        await until(lambda: flows(writer), WITHIN_SECONDS)
        seen = await seen_on(settings, SMALL, 601)
    assert [version for key, version in seen.order if key == "poison"] == list(range(2, 203))
    assert (await read_status(postgres)).published == 601


async def attempted(connection: psycopg.AsyncConnection, times: int) -> bool:
    rows = await connection.execute("SELECT attempts, released FROM outbox.parked")
    return await rows.fetchall() == [(times, False)]


async def flows(writer: Writer) -> bool:
    return await writer.parked() == {}


async def test_several_poisons_in_one_page_are_all_found(
    settings: Settings, writer: Writer
) -> None:
    """And no message of a batch that is only together too large is refused."""
    for number in range(300):
        large = number % 60 == 7
        await writer.publish(SMALL, f"k{number}", LIMIT_BYTES * 2 if large else 2_000)
    async with running(Relay(settings)):
        await writer.settled()
        assert set(await writer.parked()) == {f"k{number}" for number in range(7, 300, 60)}
        seen = await seen_on(settings, SMALL, 295)
    assert len(seen.order) == 295


async def test_a_missing_topic_parks_its_keys_until_it_is_made_and_they_are_released(
    settings: Settings, admin: AdminClient, writer: Writer, postgres: psycopg.AsyncConnection
) -> None:
    for _ in range(3):
        for key in ("a", "b"):
            await writer.publish(MISSING, key)
            await writer.publish(OPEN, f"open-{key}")
    async with running(Relay(settings)):
        await writer.settled()
        assert await writer.parked() == dict.fromkeys(("a", "b"), ("topic-missing", 3))
        assert len((await seen_on(settings, OPEN, 6)).order) == 6
        for future in admin.create_topics([NewTopic(MISSING, 4, 1)]).values():
            future.result(20)
        await release(postgres, ParkedSelection(topic=MISSING), by_hand("parked release"))
        await until(lambda: flows(writer), WITHIN_SECONDS)
        seen = await seen_on(settings, MISSING, 6)
    assert [v for k, v in seen.order if k == "a"] == [1, 2, 3]


async def test_a_denied_topic_parks_its_keys_and_only_them(
    settings: Settings, admin: AdminClient, writer: Writer, postgres: psycopg.AsyncConnection
) -> None:
    await deny(admin)
    for _ in range(3):
        for key in ("a", "b", "c"):
            await writer.publish(DENIED, key)
            await writer.publish(OPEN, f"open-{key}")
    async with running(Relay(settings)):
        await writer.settled()
        assert await writer.parked() == dict.fromkeys(("a", "b", "c"), ("topic-denied", 3))
        assert len((await seen_on(settings, OPEN, 9)).order) == 9
        await allow(admin)
        await release(postgres, ParkedSelection(key="b"), by_hand("parked release"))
        await until(lambda: only_two_parked(writer), WITHIN_SECONDS)
        seen = await seen_on(settings, DENIED, 3)
    assert seen.order == [("b", 1), ("b", 2), ("b", 3)]


async def only_two_parked(writer: Writer) -> bool:
    return set(await writer.parked()) == {"a", "c"}


async def test_a_topic_that_grows_keeps_each_key_on_its_partition(
    settings: Settings, admin: AdminClient, writer: Writer
) -> None:
    """R12."""
    keys = [f"k{number}" for number in range(40)]
    for key in keys:
        await writer.publish(GROWING, key)
    async with running(Relay(settings)):
        await writer.settled()
    for future in admin.create_partitions([NewPartitions(GROWING, 9)]).values():
        future.result(20)
    for key in keys:
        await writer.publish(GROWING, key)
    async with running(Relay(settings)):
        await writer.settled()
    seen = await seen_on(settings, GROWING, 80)
    places: dict[str, set[int]] = {}
    for key, partition in seen.places:
        places.setdefault(key, set()).add(partition)
    assert all(len(partitions) == 1 for partitions in places.values())
    assert set().union(*places.values()) == {0, 1, 2, 3}


async def test_a_topic_deleted_while_the_relay_runs_parks_its_keys(
    settings: Settings, admin: AdminClient, writer: Writer
) -> None:
    """R13: no row is lost, no topic is created, and other topics go on after the timeout."""
    quick = settings.model_copy(update={"publish_timeout_seconds": 2.0})
    await writer.publish(GROWING, "a")
    async with running(Relay(quick)):
        await writer.settled()
        for future in admin.delete_topics([GROWING]).values():
            future.result(20)
        await writer.publish(GROWING, "a")
        await writer.publish(OPEN, "open")
        await writer.settled()
        assert await writer.parked() == {"a": ("topic-missing", 1)}
        assert (await seen_on(settings, OPEN, 1)).order == [("open", 1)]
    assert GROWING not in admin.list_topics(timeout=20).topics
