"""FB3: what another program put into a store is reported, and stops no reader and no writer.

The tests plant the same entries in Qdrant's local mode, in Qdrant's own engine behind a port, and
in the graph.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from neo4j import AsyncDriver
from qdrant_client import AsyncQdrantClient, models

from consumers.mappings.catalog import ITEM, catalog_qdrant
from consumers.projections.projection import Entry, ForeignEntry, Projection, StreamKey
from consumers.qdrant.points import point_id
from consumers.qdrant.projection import QdrantProjection
from outbox.errors import MessageRejected, Violation
from schemas.catalog import COLLECTION
from tests.kit.projections.projection_suite import DIMENSION, CountingEmbedder, entry_of, upserted
from tests.kit.projections.qdrant_stores import ENGINES, over_http, scripted

pytestmark = pytest.mark.anyio

Values = dict[str, Any]
Plant = Callable[[Values], Awaitable[None]]

VECTOR = [1.0] + [0.0] * (DIMENSION - 1)
AT = StreamKey(ITEM, "suite/a")
OURS: Values = {
    "aggregate": ITEM,
    "key": AT.key,
    "version": 5,
    "event_id": "e5",
    "digest": "d5",
    "deleted": False,
}
MISSING: Any = object()
# One value of an entry, and what it is changed to; each change makes the entry foreign.
CHANGED: list[tuple[str, Any]] = [
    *(("version", v) for v in (MISSING, "5", 5.0, 5.5, True, -5, [5], 1e300)),
    *(("event_id", v) for v in (MISSING, 7, "", "e\x00")),
    *(("digest", v) for v in (MISSING, 7, True, ["d5"])),
    *(("deleted", v) for v in (MISSING, "false", 0, [False])),
]
IDS = [f"{name} {'missing' if v is MISSING else v!r}" for name, v in CHANGED]


def altered(name: str, value: Any) -> Values:
    changed = OURS | {name: value}
    return {n: v for n, v in changed.items() if v is not MISSING}


async def scanned(projection: Projection) -> tuple[list[Entry], list[ForeignEntry]]:
    found = [each async for each in projection.scan()]
    entries = [each for each in found if isinstance(each, Entry)]
    return entries, [each for each in found if isinstance(each, ForeignEntry)]


def point(values: Values, number: str | None = None) -> models.PointStruct:
    return models.PointStruct(id=number or point_id(AT), vector=VECTOR, payload=values)


@pytest.fixture(params=("in memory", *ENGINES))
async def qdrant(
    request: pytest.FixtureRequest,
    client: AsyncQdrantClient,
    embedder: CountingEmbedder,
    tmp_path: Path,
) -> AsyncIterator[tuple[QdrantProjection, AsyncQdrantClient]]:
    """The prepared projection, and a client of its store."""
    async with AsyncExitStack() as held:
        if request.param == "in memory":
            made = catalog_qdrant(client, embedder)
        else:
            server = await held.enter_async_context(scripted(request.param, tmp_path / "engine"))
            made = await held.enter_async_context(over_http(server.address, embedder))
        await made.prepare()
        yield made, made._client


async def put(client: AsyncQdrantClient, *points: models.PointStruct) -> None:
    """Write points as another program does; the scripted server only knows writes in batches."""
    upsert = models.UpsertOperation(upsert=models.PointsList(points=list(points)))
    await client.batch_update_points(COLLECTION, [upsert], wait=True)


@pytest.mark.parametrize(("name", "value"), CHANGED, ids=IDS)
async def test_a_point_that_is_not_ours_is_told_and_then_replaced_by_an_event(
    qdrant: tuple[QdrantProjection, AsyncQdrantClient], name: str, value: Any
) -> None:
    """The point has the id of one of our keys. If it stays, the event is refused, and names it."""
    projection, client = qdrant
    await put(client, point(altered(name, value)))
    assert (await scanned(projection))[0] == []
    (foreign,) = (await scanned(projection))[1]
    assert foreign.place == point_id(AT)
    assert name in foreign.why
    assert await projection.versions([AT]) == {}
    for version in (3, 9):
        change = upserted("a", version)
        try:
            await projection.apply([change])
        except MessageRejected as error:
            assert point_id(AT) in str(error)
            assert await projection.versions([AT]) == {}
            assert len((await scanned(projection))[1]) == 1
        else:
            assert await projection.versions([AT]) == {AT: entry_of(change)}
            assert await scanned(projection) == ([entry_of(change)], [])


async def test_a_point_of_most_foreign_kinds_is_replaced(
    qdrant: tuple[QdrantProjection, AsyncQdrantClient],
) -> None:
    """The fence recognises a missing or mistyped version, aggregate, key and mark of deletion."""
    projection, client = qdrant
    for name, value in (
        ("version", "5"),
        ("version", -5),
        ("version", MISSING),
        ("deleted", "false"),
        ("event_id", MISSING),
        ("digest", MISSING),
        ("key", "suite/b"),
        ("key", 7),
        ("aggregate", "orders.order"),
        ("aggregate", MISSING),
    ):
        await put(client, point(altered(name, value)))
        change = upserted("a", 3)
        await projection.apply([change])
        assert await scanned(projection) == ([entry_of(change)], []), (name, value)


async def test_points_beside_ours_are_told_by_their_ids_and_kept(
    qdrant: tuple[QdrantProjection, AsyncQdrantClient],
) -> None:
    """One of them claims a key of ours under another id: only the point under our id counts."""
    projection, client = qdrant
    await projection.apply([upserted("a", 5)])
    (twin, bare, half, other) = (str(uuid4()) for _ in range(4))
    shown = (await client.retrieve(COLLECTION, [point_id(AT)]))[0].payload
    await put(
        client,
        point(shown or {}, twin),
        point({"deleted": False, "fields": {"catalog_id": "c"}}, bare),
        point({"aggregate": ITEM, "key": "c/zz"}, half),
        point(OURS | {"aggregate": "orders.order"}, other),
        point({}, str(uuid4())),
    )
    entries, foreign = await scanned(projection)
    assert entries == [entry_of(upserted("a", 5))]
    assert {twin, bare, half, other} < {each.place for each in foreign}
    assert len(foreign) == 5
    await projection.apply([upserted("a", 6)])
    assert len((await scanned(projection))[1]) == 5


async def test_a_valid_point_that_came_meanwhile_is_fenced_as_ever(
    qdrant: tuple[QdrantProjection, AsyncQdrantClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that read a foreign point writes after another one put a newer version there."""
    projection, client = qdrant
    await put(client, point(altered("version", "5")))
    displace = projection._displace

    async def overtaken(points: Sequence[models.PointStruct]) -> list[Violation]:
        if points:
            monkeypatch.undo()
            await projection.apply([upserted("a", 9)])
        return await displace(points)

    monkeypatch.setattr(projection, "_displace", overtaken)
    await projection.apply([upserted("a", 3)])
    assert await scanned(projection) == ([entry_of(upserted("a", 9))], [])


# The graph.


@pytest.fixture
def create(driver: AsyncDriver, database: str) -> Plant:
    async def made(values: Values) -> None:
        statement = "CREATE (n:Item) SET n = $values"
        await driver.execute_query(statement, values=values, database_=database)

    return made


@pytest.mark.parametrize(("name", "value"), CHANGED, ids=IDS)
async def test_a_node_that_is_not_ours_is_told_and_then_replaced_by_an_event(
    nodes: Projection, create: Plant, name: str, value: Any
) -> None:
    await create(altered(name, value))
    entries, foreign = await scanned(nodes)
    assert (entries, len(foreign)) == ([], 1)
    assert name in foreign[0].why
    assert await nodes.versions([AT]) == {}
    for version in (3, 9):
        change = upserted("a", version)
        await nodes.apply([change, upserted("b", version)])
        assert await nodes.versions([AT]) == {AT: entry_of(change)}
    entries, foreign = await scanned(nodes)
    assert (sorted(e.stream.key for e in entries), foreign) == (["suite/a", "suite/b"], [])


@pytest.mark.parametrize(
    "key", [MISSING, 7, "", True, 1.5, ["a"]], ids=["missing", "7", "empty", "True", "1.5", "list"]
)
async def test_a_node_whose_key_is_none_is_told(nodes: Projection, create: Plant, key: Any) -> None:
    await nodes.apply([upserted("a", 1)])
    await create(altered("key", key))
    entries, foreign = await scanned(nodes)
    assert entries == [entry_of(upserted("a", 1))]
    assert ["key" in each.why for each in foreign] == [True]


async def test_a_placeholder_is_nobody_elses(nodes: Projection, create: Plant) -> None:
    await create({"key": "suite/z", "version": 0})
    assert await scanned(nodes) == ([], [])
    await create({"key": "suite/y", "version": 0, "digest": "d"})
    assert len((await scanned(nodes))[1]) == 1
