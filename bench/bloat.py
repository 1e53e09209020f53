"""How many dead rows does a batch leave behind?

`dead_tuples_per_batch` is the number of rows that the relay updated or deleted, in all of its
tables, divided by the batches that it delivered. PostgreSQL's own counters say so, with autovacuum
off. `dead_left_per_batch` is what is still there at the end: updates of the relay's one row are
pruned within their page.
"""

import asyncio

import psycopg

from bench.rig.figure import Figure
from bench.rig.rig import Rig, fresh
from bench.rig.role_process import RoleProcess, wait_until_drained

TABLES = ("relay", "messages", "deliveries", "topics", "parked", "parked_messages")
NO_VACUUM = "ALTER TABLE outbox.relay SET (autovacuum_enabled = off)"
PUBLISH = "SELECT outbox.publish('bench.sample', %s, 'bench.happened.v1', '{}')"
SETTLED_SECONDS = 2.0  # idle sessions report their counters within one second
COUNTERS = """
    SELECT coalesce(sum(n_tup_upd + n_tup_del), 0), coalesce(sum(n_dead_tup), 0)
    FROM pg_stat_user_tables WHERE schemaname = 'outbox' AND (relname = ANY (%s)
                                    OR relname LIKE 'messages\\_%%')
"""
BATCHES = "SELECT count(*) FROM outbox.deliveries"


async def ask(rig: Rig) -> list[Figure]:
    """Publish steadily for a while, so that the relay makes many small cuts."""
    async with (
        fresh(rig) as own,
        await psycopg.AsyncConnection.connect(own.settings.libpq_url(), autocommit=True) as writer,
    ):
        await writer.execute(NO_VACUUM)
        async with RoleProcess(own.settings):
            async with asyncio.timeout(rig.effort.bloat_seconds + 60):
                await _publish_for(writer, rig.effort.bloat_seconds)
            await wait_until_drained(own.settings)
        await asyncio.sleep(SETTLED_SECONDS)
        changed, dead = await _read_row(writer, COUNTERS, [list(TABLES)])
        (batches,) = await _read_row(writer, BATCHES, [])
    return [
        Figure("dead_tuples_per_batch", changed / batches, "", "at most 1"),
        Figure("dead_left_per_batch", dead / batches, "", f"after {batches:,.0f} batches"),
    ]


async def _publish_for(writer: psycopg.AsyncConnection, seconds: float) -> None:
    until = asyncio.get_running_loop().time() + seconds
    number = 0
    while asyncio.get_running_loop().time() < until:
        await writer.execute(PUBLISH, [f"k{number % 100}"])
        number += 1


async def _read_row(
    connection: psycopg.AsyncConnection, statement: str, values: list[object]
) -> tuple[float, ...]:
    row = await (await connection.execute(statement.encode(), values)).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    return tuple(map(float, row))
