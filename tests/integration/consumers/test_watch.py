"""Watch: it prints one line a round, a failed round has no counts, and a stop acts at once."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from consumers.drift.check import CheckOptions
from consumers.drift.watch import Watch, WatchRound
from consumers.projections.projection import Entry, Projection
from consumers.projections.testing.memory import MemoryProjection
from consumers.settings import Settings
from outbox.errors import DependencyDown
from outbox.streams.difference import DifferenceKind
from tests.kit.load.role import environment
from tests.kit.projections.catalogued import Connection, publish, stream
from tests.kit.projections.followers import follow, memory

pytestmark = pytest.mark.anyio

AT_ONCE = CheckOptions(patience_seconds=0)


class Flaky(MemoryProjection):
    """A stand-in whose scan fails while `away` is set."""

    away = False

    async def scan(self) -> AsyncIterator[Entry]:
        async for entry in super().scan():
            yield entry
        if self.away:
            raise DependencyDown("memory", "the last page does not come")


async def rounds(
    postgres: Connection,
    store: Projection,
    options: CheckOptions,
    after: Callable[[int], None],
    wanted: int,
) -> list[WatchRound]:
    """Run so many rounds and return them; `after` is called with the number of each."""
    reported: list[WatchRound] = []

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[Connection, Projection]]:
        yield postgres, store

    def report(done: WatchRound) -> None:
        reported.append(done)
        after(len(reported))
        if len(reported) == wanted:
            watch.stop()

    watch = Watch("memory", opened, options, 0, report)
    async with asyncio.timeout(60):
        await watch.run()
    return reported


async def test_each_round_has_four_counts_and_a_failed_one_has_none(postgres: Connection) -> None:
    """The round after a failed one has its counts again."""
    store = Flaky(memory().aggregates, memory().topics)
    await publish(postgres, "a", "b")
    await follow(postgres, store, [stream("a")])

    def after(number: int) -> None:
        store.away = number == 1

    first, second, third = await rounds(postgres, store, AT_ONCE, after, 3)
    assert (
        first.counts
        == third.counts
        == dict.fromkeys(DifferenceKind, 0) | {DifferenceKind.MISSING: 1}
    )
    assert (first.heads, first.shown, first.error) == (2, 1, None)
    assert second.counts is None
    assert second.error == "memory is down (the last page does not come)"


async def test_a_round_keeps_its_rate(postgres: Connection) -> None:
    """A lower bound: 40 keys at 40 a second."""
    store, items = memory(), [f"i{n}" for n in range(40)]
    await publish(postgres, *items)
    await follow(postgres, store, map(stream, items))
    slow = CheckOptions(patience_seconds=0, keys_per_second=40)
    (done,) = await rounds(postgres, store, slow, lambda _: None, 1)
    assert done.seconds >= 0.95


async def test_a_stop_ends_the_round_that_is_going_on(postgres: Connection) -> None:
    reached = asyncio.Event()

    class Endless(MemoryProjection):
        async def scan(self) -> AsyncIterator[Entry]:
            reached.set()
            await asyncio.Event().wait()
            yield Entry(stream("never"), 1, "", deleted=False)

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[Connection, Projection]]:
        yield postgres, Endless(memory().aggregates, memory().topics)

    reported: list[WatchRound] = []
    watch = Watch("memory", opened, AT_ONCE, 0, reported.append)
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(30):
        await reached.wait()
        watch.stop()
        await running
    assert reported == []


async def test_the_command_writes_a_line_a_round_until_sigterm(settings: Settings) -> None:
    """A store that is in step has counts, one that is not there an error; exit code 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "consumers", "drift", "watch", "--pause", "0.1", "--patience", "0",
        env=environment(settings), stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    lines: dict[str, dict[str, object]] = {}
    async with asyncio.timeout(60):
        while len(lines) < 2:
            line = json.loads(await process.stdout.readline())
            lines[line["projection"]] = line
        process.send_signal(signal.SIGTERM)
        _, logged = await process.communicate()
    assert process.returncode == 0, logged
    assert lines["neo4j"]["missing"] == lines["neo4j"]["keys"] == 0
    assert lines["qdrant"].keys() == {"projection", "error"}
    assert b'"event": "drift"' in logged
