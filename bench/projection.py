"""How much do the version fence and the tombstones cost a projection?

The same batches of changes are written twice: by the projection, and as a bare batched upsert of
the points or nodes that the projection would write. The bare ones go into a collection or a label
of their own in the same store, and the two ways take turns at going first. Both make the points or
nodes from the changes. In the first round every key is new; in the second round every key has a
newer version, and every twentieth is deleted. The figure is held against 0.8 of the bare rate.
Vectors are drawn, not embedded. Other keys are written before and not counted: meanwhile a server
written in Java compiles its statements, which takes longer for the longer statement.

Weakness: without QDRANT_URL a Python stand-in for the server's REST interface is in front of
Qdrant's engine (bench/rig/stores.py). It slows both ways alike.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from time import perf_counter
from typing import Any, NamedTuple

from neo4j import AsyncDriver
from qdrant_client import AsyncQdrantClient, models

from bench.rig.figure import Figure
from bench.rig.items import DIMENSION, DrawnEmbedder, changes
from bench.rig.rig import Rig
from bench.rig.stores import graph_store, vector_store
from consumers.mappings.catalog import catalog_neo4j, catalog_qdrant, document, item_node
from consumers.neo4j.projection import Node
from consumers.projections.projection import Change, Projection
from consumers.qdrant.points import Document, build_point, build_tombstone

BATCH = 500
WARM_KEYS = 10_000
COLLECTION = "bench"
BARE = "bench-bare"
CONSTRAINT = "CREATE CONSTRAINT bare_{label} IF NOT EXISTS FOR (n:{label}) REQUIRE n.key IS UNIQUE"
UPSERT = """UNWIND $rows AS row
MERGE (n:BareItem {key: row.node.key})
SET n = row.node
FOREACH (new IN row.edges.CONTAINS |
  MERGE (m:BareCatalog {key: new.key})
  MERGE (n)<-[:CONTAINS]-(m))
FOREACH (new IN row.edges.HAS |
  MERGE (m:BareAttribute {key: new.key})
  ON CREATE SET m = new
  MERGE (n)-[:HAS]->(m))"""

Upsert = Callable[[Sequence[Change]], Awaitable[None]]


class Contest(NamedTuple):
    """A projection, and the bare upsert of the same changes."""

    projection: Projection
    upsert: Upsert


async def ask(rig: Rig) -> list[Figure]:
    """Measure both stores; each figure names what stood behind it."""
    return [
        *await _measure("qdrant", vector_store(rig), _prepare_vectors, rig),
        *await _measure("graph", graph_store(rig), _prepare_graph, rig),
    ]


async def _measure(
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
    """Return changes a second, of the projection and of the bare upsert."""
    await _time_both(contest, range(keys, keys + min(keys, WARM_KEYS)))
    fenced, bare = await _time_both(contest, range(keys))
    return 2 * keys / fenced, 2 * keys / bare


async def _time_both(contest: Contest, keys: range) -> tuple[float, float]:
    """Return the seconds of the projection and of the bare upsert, for two changes a key."""
    fenced = bare = 0.0
    for version in (1, 2):
        for number, first in enumerate(keys[::BATCH]):
            batch = changes(first, min(BATCH, keys.stop - first), version)
            if number % 2:
                bare += await _time(contest.upsert, batch)
            fenced += await _time(contest.projection.apply, batch)
            if not number % 2:
                bare += await _time(contest.upsert, batch)
    return fenced, bare


async def _time(work: Upsert, batch: Sequence[Change]) -> float:
    started = perf_counter()
    await work(batch)
    return perf_counter() - started


async def _prepare_vectors(store: Any) -> Contest:
    client: AsyncQdrantClient = store.client
    embedder = DrawnEmbedder()
    projection = catalog_qdrant(client, embedder, COLLECTION)
    await projection.prepare()
    size = models.VectorParams(size=embedder.dimension, distance=models.Distance.COSINE)
    await client.create_collection(BARE, vectors_config=size)

    async def upsert(batch: Sequence[Change]) -> None:
        documents = [document(change) for change in batch]
        vectors = (await embedder.embed([each.text for each in documents])).tolist()
        points = list(map(_make_point, batch, documents, vectors))
        upsert = models.UpsertOperation(upsert=models.PointsList(points=points))
        await client.batch_update_points(BARE, [upsert], wait=True)

    return Contest(projection, upsert)


def _make_point(change: Change, described: Document, vector: list[float]) -> models.PointStruct:
    if change.deleted:
        return build_tombstone(change, DIMENSION, described.fields)
    more = {
        "model": DrawnEmbedder.model,
        "content_hash": described.content_hash,
        "fields": dict(described.fields),
    }
    return build_point(change, vector, more)


async def _prepare_graph(store: Any) -> Contest:
    driver: AsyncDriver = store.driver
    projection = catalog_neo4j(driver, store.database)
    await projection.prepare()
    for label in ("BareItem", "BareCatalog", "BareAttribute"):
        await driver.execute_query(CONSTRAINT.format(label=label), database_=store.database)

    async def upsert(batch: Sequence[Change]) -> None:
        rows = [_make_row(change) for change in batch]
        await driver.execute_query(UPSERT, {"rows": rows}, database_=store.database)

    return Contest(projection, upsert)


def _make_row(change: Change) -> dict[str, Any]:
    node = Node() if change.deleted else item_node(change)
    own = {"key": change.stream.key, "version": change.version, "event_id": change.event_id,
           "digest": change.digest, "deleted": change.deleted}  # fmt: skip
    edges = {name: list(node.neighbours.get(name, ())) for name in ("CONTAINS", "HAS")}
    return {"node": {**node.properties, **own}, "edges": edges}
