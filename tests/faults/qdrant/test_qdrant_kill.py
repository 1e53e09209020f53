"""Qdrant's own engine, killed or out of space while it is written to.

The engine is the server's, from its wheel, in a process of its own with its write-ahead log; its
HTTP port is a stand-in.
"""

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumers.projections.projection import Change, keep_latest
from consumers.projections.testing.conformance import assert_shows, entry_of
from consumers.projections.testing.sample import Sample, catalog_items
from consumers.qdrant.projection import QdrantProjection
from outbox.errors import DependencyDown
from stack.servers.port import free_ports
from tests.kit.load.length import LONG
from tests.kit.load.seed import seed
from tests.kit.projections.projection_suite import CountingEmbedder
from tests.kit.projections.qdrant_stores import NO_ENGINE, over_http
from tests.kit.servers.disk import small_disk
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

KILLS = 50 if LONG else 4
WRITERS = 4
VERSIONS = 6
MOST_BATCHES_BETWEEN = 30
DISK_MEBIBYTES = 120
WITHIN_SECONDS = 60.0


class Supervised:
    """The server in a folder; it can be started again after each end."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (self.port,) = free_ports(1)
        self._command = [
            sys.executable, "-m", "tests.kit.qdrant.server", str(folder), str(self.port),
        ]  # fmt: skip
        self._process = self._begin()

    def kill(self) -> None:
        """Kill the process with SIGKILL, and start another one."""
        self._process.kill()
        assert self.died() == -signal.SIGKILL
        self.start()

    def died(self) -> int:
        """Wait until the process has ended; its return code."""
        return self._process.wait(WITHIN_SECONDS)

    def start(self) -> None:
        """Start another process in the place of the dead one."""
        self.close()
        self._process = self._begin()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=WITHIN_SECONDS)

    def _begin(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(self._command, stdin=subprocess.PIPE)


@contextmanager
def supervised(folder: Path) -> Iterator[Supervised]:
    server = Supervised(folder)
    try:
        yield server
    finally:
        server.close()


class Writers:
    """Several writers, each with keys of its own; every version comes twice, in any order.

    `applied` has the changes that the store has acknowledged.
    """

    def __init__(self, projection: QdrantProjection, sample: Sample) -> None:
        self.projection = projection
        self.applied: list[Change] = []
        self.batches = self.outages = 0
        self._sample = sample
        self._stopping = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for writer in range(WRITERS):
                group.create_task(self._write(writer))

    def stop(self) -> None:
        self._stopping = True

    async def _write(self, writer: int) -> None:
        turn = 0
        while not self._stopping:
            names = [f"{writer}-{turn}-{n}" for n in range(3)]
            history = self._sample.history(names, VERSIONS)
            for start in range(0, len(history), 4):
                await self._apply(history[start : start + 4])
            turn += 1

    async def _apply(self, batch: list[Change]) -> None:
        """Apply the batch, again until it is done, as a runner does."""
        while True:
            try:
                await self.projection.apply(batch)
            except DependencyDown:
                self.outages += 1
                await asyncio.sleep(0.02)
            else:
                self.applied += batch
                self.batches += 1
                return


@pytest.fixture
async def projection(tmp_path: Path) -> AsyncIterator[tuple[Supervised, QdrantProjection]]:
    pytest.importorskip("qdrant_edge", reason=NO_ENGINE)
    with supervised(tmp_path / "engine") as server:
        async with over_http(f"127.0.0.1:{server.port}", CountingEmbedder()) as made:
            await until(lambda: _is_up(made), WITHIN_SECONDS)
            yield server, made


async def _is_up(projection: QdrantProjection) -> bool:
    try:
        await projection.prepare()
    except DependencyDown:
        return False
    return True


async def test_after_each_kill_all_that_was_applied_is_there_and_nothing_is_older(
    projection: tuple[Supervised, QdrantProjection], tell: Callable[[str], None]
) -> None:
    """Q7: at the end the store holds what the whole history says."""
    server, store = projection
    chosen = seed(7)
    chance = random.Random(chosen)
    writers = Writers(store, catalog_items(chosen))
    async with asyncio.TaskGroup() as group:
        group.create_task(writers.run())
        for _ in range(KILLS):
            await _some_batches(writers, chance.randint(1, MOST_BATCHES_BETWEEN))
            before = keep_latest(writers.applied)
            server.kill()
            await until(lambda: _is_up(store), WITHIN_SECONDS)
            await _shows_at_least(store, before)
        writers.stop()
    await assert_shows(store, keep_latest(writers.applied))
    assert writers.outages >= KILLS, "no writer was in the middle of anything"
    tell(
        f"{KILLS} kills, {writers.batches} batches, {writers.outages} repeated, SEED={chosen}, "
        f"{len(keep_latest(writers.applied))} keys"
    )


async def _some_batches(writers: Writers, count: int) -> None:
    wanted = writers.batches + count

    async def written() -> bool:
        return writers.batches >= wanted

    await until(written, WITHIN_SECONDS, 0.001)


async def _shows_at_least(store: QdrantProjection, heads: list[Change]) -> None:
    shown = await store.versions([change.stream for change in heads])
    for change in heads:
        found = shown[change.stream]
        assert found.version >= change.version, change.stream
        assert found.version > change.version or found == entry_of(change)


async def test_a_disk_that_is_full_costs_nothing_but_time(
    tmp_path: Path, embedder: CountingEmbedder
) -> None:
    """Q10: the engine dies of it; all that it acknowledged is there when it has room again."""
    pytest.importorskip("qdrant_edge", reason=NO_ENGINE)
    folder = tmp_path / "engine"
    folder.mkdir()
    with small_disk(folder, DISK_MEBIBYTES) as disk, supervised(folder) as server:
        async with over_http(f"127.0.0.1:{server.port}", embedder) as store:
            await until(lambda: _is_up(store), WITHIN_SECONDS)
            writers = Writers(store, catalog_items())
            async with asyncio.TaskGroup() as group:
                group.create_task(writers.run())
                await _some_batches(writers, MOST_BATCHES_BETWEEN)
                disk.fill()
                assert await asyncio.to_thread(server.died) == -signal.SIGBUS
                before = keep_latest(writers.applied)
                disk.free()
                server.start()
                await until(lambda: _is_up(store), WITHIN_SECONDS)
                await _shows_at_least(store, before)
                writers.stop()
            await assert_shows(store, keep_latest(writers.applied))
            assert writers.outages > 0
