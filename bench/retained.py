"""Is the relay slower if much is retained and some transaction stays open?

Two times are measured over an almost empty table: a poll that finds one new message, and the drain
of a backlog. Then both are measured over a table of published messages, while a transaction stays
open that has a transaction id and a snapshot from before the first of them was written. The figures
are held against 1.5 times.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic, perf_counter

import psycopg

from bench.rig.backlog import fill
from bench.rig.figure import Figure, median
from bench.rig.rig import Rig, fresh
from bench.rig.role_process import RoleProcess, wait_until_drained
from outbox.cursor.cut import Cut, CutReader
from outbox.postgres.connection import connect
from outbox.settings import Settings

POLLS = 200
RETAINED_PAYLOAD_BYTES = 50
PUBLISH = "SELECT outbox.publish('bench.sample', 'k', 'bench.happened.v1', '{}')"
ALL_PUBLISHED = """
    UPDATE outbox.relay SET cursor = pg_current_snapshot(), upto = NULL, position = 0
"""


async def ask(rig: Rig) -> list[Figure]:
    """Measure poll and drain over an almost empty table, and over a full one."""
    effort = rig.effort
    async with fresh(rig) as own:
        empty_poll, empty_drain = await _measure(own)
    async with fresh(rig) as own, _open_transaction(own.settings) as opened:
        await fill(own.settings, effort.retained_messages, RETAINED_PAYLOAD_BYTES)
        await _mark_all_published(own.settings)
        await asyncio.sleep(max(0.0, opened + effort.open_seconds - monotonic()))
        full_poll, full_drain = await _measure(own)
        open_seconds = monotonic() - opened
    against = f"over {effort.retained_messages:,} retained; at most 1.5"
    return [
        Figure("retained_open_seconds", open_seconds, "s", "how long another transaction is open"),
        Figure("retained_poll_ms", full_poll * 1000, "ms", f"empty: {empty_poll * 1000:.2f}"),
        Figure("retained_poll_ratio", full_poll / empty_poll, "", against),
        Figure("retained_drain_ratio", full_drain / empty_drain, "", against),
    ]


async def _measure(rig: Rig) -> tuple[float, float]:
    """Return the seconds of a poll that finds one message, and those of the drain."""
    poll = await _time_polls(rig.settings)
    await fill(rig.settings, rig.effort.retained_drain)
    async with RoleProcess(rig.settings):
        return poll, await wait_until_drained(rig.settings)


async def _time_polls(settings: Settings) -> float:
    """Return the median of POLLS polls, in seconds."""
    seconds = []
    async with await connect(settings) as connection, await connect(settings) as writer:
        reader = CutReader(connection, settings.page_messages, settings.page_bytes)
        await reader.prepare()
        cursor = await reader.read_snapshot()
        for _ in range(POLLS):
            await writer.execute(PUBLISH)
            started = perf_counter()
            upto = await reader.read_snapshot()
            rows = await reader.read_small_cut(Cut(cursor, upto))
            seconds.append(perf_counter() - started)
            assert rows is not None  # noqa: S101 - a poll that found nothing is not what we time
            assert len(rows) == 1  # noqa: S101 - one message is what we time
            cursor = upto
        await writer.execute(ALL_PUBLISHED)
    return median(seconds)


async def _mark_all_published(settings: Settings) -> None:
    async with await connect(settings) as connection:
        await connection.execute(ALL_PUBLISHED)
        await connection.execute("VACUUM (ANALYZE) outbox.messages")


@asynccontextmanager
async def _open_transaction(settings: Settings) -> AsyncIterator[float]:
    """Hold a transaction open for the length of the block, and yield when it began.

    It has a transaction id, and a snapshot that keeps dead rows from being pruned.
    """
    async with await psycopg.AsyncConnection.connect(settings.libpq_url()) as connection:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await connection.execute("SELECT pg_current_xact_id()")
        yield monotonic()
        await connection.rollback()
