"""PostgreSQL's disk is full, P20: that of its tables, or that of its log.

A full disk of tables is an error of the statement, and PostgreSQL lives on. A full disk of the log
is a PANIC: PostgreSQL ends, and an operator starts it again when there is space. Writers and relay
are never restarted.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import psycopg
import pytest

from consumers.settings import Settings
from outbox.postgres.migrate import migrate
from outbox.relay.relay import Relay
from outbox.write.database import Database
from services.migrations import all_migrations
from stack.servers.postgres import ask
from tests.kit.load.roles import running
from tests.kit.load.writer import Writer, disagreeing, ended
from tests.kit.servers.cluster import Cluster, at, cluster_folder
from tests.kit.servers.disk import Disk, small_disk
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MEBIBYTES = {"base": 96, "pg_wal": 96}
REFUSALS = 20
UNITS = 50
WITHIN_SECONDS = 60.0
RECEIPTS = "SELECT count(*) FROM outbox.receipts"


@dataclass
class Full:
    """A server with a small disk below it, and the programs that work with it."""

    cluster: Cluster
    disk: Disk
    writer: Writer
    load: asyncio.Task[None]
    witness: Witness


@asynccontextmanager
async def working(settings: Settings, part: str) -> AsyncIterator[Full]:
    """Let a writer and a relay work; `part` of the data folder lies on a disk of its own."""
    with cluster_folder() as folder:
        cluster = Cluster(folder)
        async with cluster:
            await migrate(cluster.url, all_migrations())
        with small_disk(cluster.data / part, MEBIBYTES[part]) as disk:
            own = at(settings, cluster.url)
            async with cluster, Database(own, "full") as database:
                writer = await Writer.prepared(database, cluster.url)
                async with running(Relay(own)), Witness(own) as witness:
                    load = asyncio.create_task(writer.run())
                    try:
                        yield Full(cluster, disk, writer, load, witness)
                    finally:
                        await ended(load)


@pytest.mark.parametrize("part", ["base", "pg_wal"])
async def test_a_full_disk_costs_nothing_but_time(settings: Settings, part: str) -> None:
    """P20, I1-I4, I11: writers get DependencyDown, which HTTP answers with 503."""
    async with working(settings, part) as parts:
        await went_on(parts.writer)
        parts.disk.fill()
        await refused(parts, part)
        acknowledged = parts.writer.done
        parts.disk.free()
        await started_again(parts.cluster, part)
        receipts = await ask(parts.cluster.url, RECEIPTS)
        assert isinstance(receipts, int)
        assert receipts >= acknowledged
        await went_on(parts.writer)
        await ended(parts.load)
        verdict = await parts.witness.saw_all()
        assert verdict.at_least_once, verdict
        assert await disagreeing(parts.cluster.url) == []


async def went_on(writer: Writer) -> None:
    enough = writer.done + UNITS

    async def there() -> bool:
        return writer.done >= enough

    await until(there, WITHIN_SECONDS, 0.02)


async def refused(parts: Full, part: str) -> None:
    """Return once units are refused, again and again; a log fills one segment at a time."""
    enough = parts.writer.refused + REFUSALS

    async def there() -> bool:
        if part == "pg_wal":
            with suppress(psycopg.Error):
                await ask(parts.cluster.url, "SELECT pg_switch_wal()")
        return parts.writer.refused >= enough

    await until(there, WITHIN_SECONDS, 0.05)


async def started_again(cluster: Cluster, part: str) -> None:
    """Start PostgreSQL again if it has ended, as it does without space for its log."""
    panicked = "PANIC" in cluster.log
    assert panicked is (part == "pg_wal")
    if panicked:
        await cluster.stop()
        await cluster.start()
