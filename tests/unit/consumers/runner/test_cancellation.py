"""Membership: it may be cancelled at any turn of the loop; broker and store are stand-ins."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Self

import pytest

from consumers.runner import membership
from consumers.runner.applier import Applier
from consumers.runner.membership import Membership
from consumers.settings import Settings
from outbox.errors import DependencyDown, build_rejection
from outbox.kafka import ConsumerRecord, Partition
from tests.kit.consumers.assignments import (
    ATTEMPTS,
    PARTITION,
    MemoryDeadLetters,
    MemoryRedelivery,
    Script,
)
from tests.kit.consumers.work_items import record_of
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

TURNS = 120
RECORDS = [record_of(f"key{number % 3}", number) for number in range(12)]
BROKEN = "key1@4"


class Broker:
    """One partition and its committed offset; it refuses a commit ahead of the work."""

    def __init__(self, done: Callable[[], set[int]]) -> None:
        self.committed = 0
        self._done = done

    def commit(self, offset: int) -> None:
        assert set(range(offset)) <= self._done(), "committed ahead of the work"
        assert offset >= self.committed
        self.committed = offset


class Joined:
    """A stand-in for a Subscriber; it yields at every await, so that it may be cancelled there."""

    def __init__(
        self, broker: Broker, assigned: Callable[[Collection[Partition]], None], **_: object
    ) -> None:
        self._broker = broker
        self._assigned = assigned
        self._next = 0
        self.open = 0

    async def __aenter__(self) -> Self:
        await asyncio.sleep(0)
        self._next = self._broker.committed
        self._assigned([PARTITION])
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)

    async def receive(self, *_: int) -> dict[Partition, list[ConsumerRecord]]:
        await asyncio.sleep(0)
        fetched = RECORDS[self._next : self._next + 5]
        self._next += len(fetched)
        return {PARTITION: fetched} if fetched else {}

    async def commit(self, offsets: Mapping[Partition, int]) -> bool:
        await asyncio.sleep(0)
        self._broker.commit(offsets[PARTITION])
        await asyncio.sleep(0)
        return True

    def pause(self, partition: Partition) -> None:
        del partition

    def resume(self, partition: Partition) -> None:
        del partition


class World:
    """Broker, store and dead letters that outlive each member."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.script = Script(batch_messages=3)
        self.letters = MemoryDeadLetters()
        self.broker = Broker(self.done)
        self.failures = 0
        self.script.fails = self.fail
        patch.setattr(membership, "Subscriber", self.join)

    def join(
        self, *_: object, assigned: Any, revoked: Callable[[], Awaitable[None]], **others: object
    ) -> Joined:
        del revoked, others
        return Joined(self.broker, assigned)

    def fail(self, envelope: Any) -> Exception | None:
        """Say that the store is away for the first calls, and then that one message is broken."""
        self.failures += 1
        if self.failures < 3:
            return DependencyDown("store", "planted")
        return build_rejection("schema", "name", "planted") if envelope.id == BROKEN else None

    def done(self) -> set[int]:
        """The offsets that have an effect or a letter."""
        applied = {int(each.partition("@")[2]) for each in self.script.applied}
        return applied | {letter.record.offset for letter in self.letters.written}

    async def all_committed(self) -> bool:
        return self.broker.committed == len(RECORDS)

    async def consume(self) -> None:
        settings = Settings(backoff_first_seconds=0.001, backoff_longest_seconds=0.002)
        applier = Applier(self.script, self.letters, _Never(), ATTEMPTS)
        stopping = asyncio.Event()
        async with Membership(settings, self.script, applier, _Never(), stopping) as member:
            while True:
                await member.turn()


class _Never(MemoryRedelivery):
    async def due(self, partitions: Collection[Partition]) -> tuple[()]:
        del partitions
        await asyncio.sleep(0)
        return ()


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_wherever_it_is_cancelled_nothing_is_left_running_lost_or_committed_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """C24, I9, with stand-ins: a task that goes on would write late."""
    for turns in range(TURNS):
        await cancelled_after(turns, monkeypatch)


async def cancelled_after(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    before = asyncio.all_tasks()
    cancelled = asyncio.create_task(world.consume())
    for _ in range(turns):
        await asyncio.sleep(0)
    await ended(cancelled)
    assert asyncio.all_tasks() <= before
    following = asyncio.create_task(world.consume())
    await until(world.all_committed, 30, 0.001)
    await ended(following)
    assert world.done() == set(range(len(RECORDS)))
    first = list(dict.fromkeys(world.script.of_key("key0")))
    assert first == [f"key0@{offset}" for offset in range(0, 12, 3)]
    assert world.script.of_key("key1") == ["key1@1"] * len(world.script.of_key("key1"))
