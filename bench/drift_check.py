"""How many keys a second does a drift check compare?

A repair fills a graph with the latest message of every key. The graph is then checked against the
stream heads in PostgreSQL. Nothing differs, so no time is spent on looking again. There is no
target; beside the figure stands what the store itself needs to list its keys
(`graph_scan_keys_per_s`).
"""

from time import perf_counter

import psycopg

from bench.rig.figure import Figure
from bench.rig.items import changes
from bench.rig.rig import Rig, fresh
from bench.rig.stores import graph_store
from consumers.drift.check import CheckOptions, open_check
from consumers.drift.repair import RepairLimits, repair
from consumers.mappings.catalog import ITEM_SHAPE
from consumers.neo4j.projection import Neo4jProjection
from consumers.projections.projection import Projection
from outbox.operations import Operation
from outbox.postgres.connection import connect
from outbox.settings import Settings
from schemas.catalog import ItemEvent

PUBLISH = """
    SELECT outbox.publish(%s, %s, %s, %s::jsonb, topic => %s)
"""
EVERYTHING = RepairLimits(max_share=1.0, keys_per_second=None)
AT_ONCE = CheckOptions(patience_seconds=0)


async def ask(rig: Rig) -> list[Figure]:
    """Measure the graph; Qdrant's local mode sorts all of its points for each page of a scan."""
    async with fresh(rig) as own, graph_store(rig) as store:
        topics = [ItemEvent.topic]
        projection = Neo4jProjection(store.driver, store.database, [ITEM_SHAPE], topics=topics)
        await projection.prepare()
        keys = rig.effort.projected_keys
        await _publish(own.settings, keys)
        async with await connect(own.settings, "bench") as connection:
            await _fill(connection, projection)
            await _scan(projection)  # warms the store's cache
            scanned = await _scan(projection)
            seconds = await _check(connection, projection)
    return [
        Figure("drift_check_keys_per_s", keys / seconds, "/s", f"beside a scan; {store.provider}"),
        Figure("graph_scan_keys_per_s", keys / scanned, "/s", "the store's own part of it"),
    ]


async def _publish(settings: Settings, keys: int) -> None:
    async with (
        await psycopg.AsyncConnection.connect(settings.libpq_url()) as connection,
        connection.cursor() as cursor,
    ):
        rows = [
            (c.stream.aggregate, c.stream.key, c.event.type, c.event.payload(), c.event.topic)
            for c in changes(0, keys, 1)
        ]
        await cursor.executemany(
            PUBLISH, [(a, k, t, body.decode(), to) for a, k, t, body, to in rows]
        )


async def _fill(connection: psycopg.AsyncConnection, projection: Projection) -> None:
    operation = Operation("bench", "drift repair", projection.name, "to have something to compare")
    async with open_check(connection, projection, AT_ONCE) as drift:
        await repair(connection, projection, drift, EVERYTHING, operation)


async def _scan(projection: Projection) -> float:
    started = perf_counter()
    async for _ in projection.scan():
        pass
    return perf_counter() - started


async def _check(connection: psycopg.AsyncConnection, projection: Projection) -> float:
    """Return the seconds of a check that finds nothing; RuntimeError if it finds something."""
    started = perf_counter()
    async with open_check(connection, projection, CheckOptions()) as drift:
        if drift.keys:
            raise RuntimeError(f"{drift.keys} keys differ")
    return perf_counter() - started
