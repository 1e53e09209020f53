"""What do fence and tombstones cost a projection?

The same batches, in turn: applied by the projection, and as a bare batched upsert of the points or
nodes that the projection would write, made beforehand, into a collection or a label of their own in
the same store. First every key is new; in the second round every key has a newer version, and every
twentieth is deleted. Held against 0.8 of the bare rate. Vectors are drawn, not embedded.

Weakness: without QDRANT_URL a stand-in for the server's REST interface, in Python, is before
Qdrant's engine (bench/stores.py); it is as slow for the bare rate.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from time import perf_counter
from typing import Any, NamedTuple

from neo4j import AsyncDriver
from qdrant_client import AsyncQdrantClient, models

from bench.figure import Figure
from bench.items import DrawnEmbedder, changes
from bench.rig import Rig
from bench.stores import graph_store, vector_store
from consumers.catalog import ITEM_SHAPE, catalog_neo4j, catalog_qdrant, document
from consumers.points import point, tombstone
from consumers.projection import Change, Projection

BATCH = 500
COLLECTION = "bench"
BARE = "bench-bare"
CONSTRAINT = "CREATE CONSTRAINT bare_{label} IF NOT EXISTS FOR (n:{label}) REQUIRE n.key IS UNIQUE"
UPSERT = """UNWIND $rows AS row
MERGE (n:BareItem {key: row.key})
SET n = row.node
FOREACH (new IN row.edges.CONTAINS |
  MERGE (m:BareCatalog {key: new.key})
  MERGE (n)<-[:CONTAINS]-(m))
FOREACH (new IN row.edges.HAS |
  MERGE (m:BareAttribute {key: new.key})
  ON CREATE SET m = new
  MERGE (n)-[:HAS]->(m))"""

Upsert = Callable[[Sequence[Any]], Awaitable[None]]


class Contest(NamedTuple):
    """A projection, and the bare upsert of what `made` makes of its changes."""

    projection: Projection
    made: Callable[[Sequence[Change]], Awaitable[Sequence[Any]]]
    upsert: Upsert


async def ask(rig: Rig) -> list[Figure]:
    """Both stores; each figure names what stood behind it."""
    return [
        *await _figures("qdrant", vector_store(rig), _vectors, rig),
        *await _figures("graph", graph_store(rig), _graph, rig),
    ]


async def _figures(
    name: str,
    store: AbstractAsyncContextManager[Any],
    contest: Callable[[Any], Awaitable[Contest]],
    rig: Rig,
) -> list[Figure]:
    async with store as there:
        fenced, bare = await _compete(await contest(there), rig.effort.projected_keys)
        against = f"at least 0.8 of {bare:,.0f}/s, bare, into {there.provider}"
    return [
        Figure(f"projection_{name}_per_s", fenced, "/s", "inserts, then updates and deletes"),
        Figure(f"projection_ratio_{name}", fenced / bare, "", against),
    ]


async def _compete(contest: Contest, keys: int) -> tuple[float, float]:
    """Changes a second, of the projection and of the bare upsert; the first batch warms both."""
    seconds = [0.0, 0.0]
    counted = 0
    for version in (1, 2):
        for first in range(0, keys, BATCH):
            batch = changes(first, min(BATCH, keys - first), version)
            rows = await contest.made(batch)
            taken = [
                await _timed(contest.projection.apply, batch),
                await _timed(contest.upsert, rows),
            ]
            if version == 1 and first == 0:
                continue
            counted += len(batch)
            seconds = [total + one for total, one in zip(seconds, taken, strict=True)]
    return counted / seconds[0], counted / seconds[1]


async def _timed(work: Callable[[Any], Awaitable[None]], batch: Sequence[Any]) -> float:
    started = perf_counter()
    await work(batch)
    return perf_counter() - started


async def _vectors(store: Any) -> Contest:
    client: AsyncQdrantClient = store.client
    embedder = DrawnEmbedder()
    projection = catalog_qdrant(client, embedder, COLLECTION)
    await projection.prepare()
    size = models.VectorParams(size=embedder.dimension, distance=models.Distance.COSINE)
    await client.create_collection(BARE, vectors_config=size)

    async def made(batch: Sequence[Change]) -> Sequence[models.PointStruct]:
        return [await _point(change, embedder) for change in batch]

    async def upsert(points: Sequence[models.PointStruct]) -> None:
        await client.upsert(BARE, points, wait=True)

    return Contest(projection, made, upsert)


async def _point(change: Change, embedder: DrawnEmbedder) -> models.PointStruct:
    described = document(change)
    if change.deleted:
        return tombstone(change, embedder.dimension, described.fields)
    (vector,) = await embedder.embed([described.text])
    more = {
        "model": embedder.model,
        "content_hash": described.content_hash,
        "fields": dict(described.fields),
    }
    return point(change, vector, more)


async def _graph(store: Any) -> Contest:
    driver: AsyncDriver = store.driver
    projection = catalog_neo4j(driver, store.database)
    await projection.prepare()
    for label in ("BareItem", "BareCatalog", "BareAttribute"):
        await driver.execute_query(CONSTRAINT.format(label=label), database_=store.database)

    async def made(batch: Sequence[Change]) -> Sequence[dict[str, Any]]:
        return [ITEM_SHAPE.row(change) for change in batch]

    async def upsert(rows: Sequence[dict[str, Any]]) -> None:
        await driver.execute_query(UPSERT, {"rows": rows}, database_=store.database)

    return Contest(projection, made, upsert)
