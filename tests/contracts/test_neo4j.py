"""What only the graph promises: constraints, placeholders, edges, and data that stays data."""

from typing import Any

import pytest
from neo4j import AsyncDriver

from consumers.mappings.catalog import CATALOG, ITEM_SHAPE, catalog_neo4j, to_text
from consumers.neo4j.projection import Edge, Neo4jProjection, Node, Shape, connect
from consumers.neo4j.shape import Row
from consumers.projections.projection import Change, StreamKey
from outbox.errors import DependencyDown, StoreUnfit
from schemas.catalog import CatalogCreated
from stack.part import GraphPart
from stack.servers.port import LOOPBACK, free_ports
from tests.kit.projections.projection_suite import (
    assert_shows,
    drop_constraints,
    entry_of,
    read_all,
    removed,
    upserted,
)

pytestmark = pytest.mark.anyio

HOSTILE = """a'b"c`d\\e}) DETACH DELETE (n) // =;$rows"""


@pytest.fixture
def projection(nodes: Neo4jProjection) -> Neo4jProjection:
    return nodes


@pytest.fixture
def rows(driver: AsyncDriver, database: str) -> Any:
    async def query(cypher: str) -> list[tuple[Any, ...]]:
        result = await driver.execute_query(cypher, database_=database)
        return sorted(tuple(record.values()) for record in result.records)

    return query


def created(version: int) -> Change:
    event = CatalogCreated(catalog_id="suite", name="The suite")
    return Change(StreamKey(CATALOG, "suite"), version, f"suite@{version}", "d", False, event)


HAS = "MATCH (:Item {key: 'suite/a'})-[:HAS]->(a:Attribute) RETURN a.key, a.name, a.value"
CONTAINS = "MATCH (c:Catalog)-[:CONTAINS]->(n:Item) RETURN c.key, n.key"


async def test_it_refuses_a_graph_that_cannot_have_its_constraint(
    driver: AsyncDriver, database: str
) -> None:
    await drop_constraints(driver, database)
    twins = "CREATE (:Item {key: 'suite/a'}), (:Item {key: 'suite/a'})"
    await driver.execute_query(twins, database_=database)
    with pytest.raises(StoreUnfit, match="unique `key` for Item"):
        await catalog_neo4j(driver, database).prepare()


async def test_it_refuses_a_constraint_that_is_missing_after_all(
    driver: AsyncDriver, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> None:
        return None

    await drop_constraints(driver, database)
    monkeypatch.setattr("consumers.neo4j.constraints._create_constraint", nothing)
    with pytest.raises(StoreUnfit, match="Attribute, Catalog, Item"):
        await catalog_neo4j(driver, database).prepare()


async def test_a_catalog_may_come_after_its_items(projection: Neo4jProjection, rows: Any) -> None:
    await projection.apply([upserted("a", 1)])
    await assert_shows(projection, [upserted("a", 1)])
    assert await projection.versions([created(1).stream]) == {}
    await projection.apply([created(1)])
    assert await rows("MATCH (c:Catalog) RETURN c.name, c.version") == [("The suite", 1)]
    assert await rows(CONTAINS) == [("suite", "suite/a")]
    assert await read_all(projection) == {
        c.stream: entry_of(c) for c in (created(1), upserted("a", 1))
    }


async def test_a_placeholder_does_not_overwrite_what_came_before(
    projection: Neo4jProjection, rows: Any
) -> None:
    await projection.apply([created(1), upserted("a", 1)])
    await projection.apply([upserted("b", 1)])
    assert await rows("MATCH (c:Catalog) RETURN c.name, c.version") == [("The suite", 1)]
    assert await rows(CONTAINS) == [("suite", "suite/a"), ("suite", "suite/b")]


async def test_attributes_are_replaced_by_the_newer_ones(
    projection: Neo4jProjection, rows: Any
) -> None:
    await projection.apply([upserted("a", 1, colour="red", size=3.0)])
    await projection.apply([upserted("a", 2, size=3.0, open=True)])
    await projection.apply([upserted("a", 1, colour="red")])
    assert await rows(HAS) == [("open=true", "open", True), ("size=3", "size", 3.0)]


async def test_a_value_of_another_type_has_a_node_of_its_own(
    projection: Neo4jProjection, rows: Any
) -> None:
    """FA5: the text `true` is not the bool, and `3` is not the number."""
    await projection.apply([upserted("a", 1, open=True, size=3.0)])
    await projection.apply([upserted("a", 2, open="true", size="3")])
    assert await rows(HAS) == [('open="true"', "open", "true"), ('size="3"', "size", "3")]


async def test_items_share_the_node_of_a_value(projection: Neo4jProjection, rows: Any) -> None:
    await projection.apply([upserted("a", 1, colour="red"), upserted("b", 1, colour="red")])
    assert await rows("MATCH (a:Attribute)<-[:HAS]-(n) RETURN a.key, n.key") == [
        ("colour=red", "suite/a"),
        ("colour=red", "suite/b"),
    ]
    assert await rows("MATCH (a:Attribute) RETURN count(a)") == [(1,)]


async def test_a_tombstone_has_neither_properties_nor_edges(
    projection: Neo4jProjection, rows: Any
) -> None:
    gone = removed("a", 2)
    await projection.apply([upserted("a", 1, colour="red"), upserted("b", 1, colour="red")])
    await projection.apply([gone])
    assert await rows("MATCH (n:Item {key: 'suite/a'}) RETURN properties(n)") == [
        (
            {
                "key": "suite/a",
                "version": 2,
                "event_id": gone.event_id,
                "digest": gone.digest,
                "deleted": True,
            },
        )
    ]
    assert await rows("MATCH (n:Item {key: 'suite/a'})-[r]-() RETURN r") == []
    assert await rows(CONTAINS) == [("suite", "suite/b")]


async def test_hostile_values_stay_data(projection: Neo4jProjection, rows: Any) -> None:
    await projection.apply([upserted("a", 1, note=HOSTILE)])
    assert await rows(HAS) == [(f"note={HOSTILE}", "note", HOSTILE)]
    await projection.apply([upserted("a", 2)])
    assert await rows(HAS) == []


@pytest.mark.parametrize("word", ["Item`) DETACH DELETE (n", "", "A B", "1st", "Ärger"])
async def test_a_shape_takes_plain_words_only(word: str) -> None:
    with pytest.raises(ValueError, match="plain words"):
        Shape("some.thing", word, lambda _: Node())
    with pytest.raises(ValueError, match="plain words"):
        Shape("some.thing", "Thing", lambda _: Node(), edges=(Edge(word, "Thing"),))


@pytest.mark.parametrize(
    ("limits", "keys"),
    [
        ({"batch_rows": 2}, [2, 2, 1]),
        ({"batch_neighbours": 6}, [2, 2, 1]),
        ({"batch_neighbours": 1}, [1, 1, 1, 1, 1]),
        ({}, [5]),
    ],
    ids=["keys", "neighbours", "fewer than one has", "neither"],
)
async def test_a_batch_larger_than_a_transaction_is_applied_whole(
    driver: AsyncDriver,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, Any],
    keys: list[int],
) -> None:
    projection = Neo4jProjection(driver, database, [ITEM_SHAPE], topics=(), **limits)
    await projection.prepare()
    sizes = transactions(projection, monkeypatch)
    changes = [upserted(item, 1, colour=f"of {item}", size=3.0) for item in "abcde"]
    await projection.apply(changes)
    assert sizes == keys
    await assert_shows(projection, changes)


def transactions(projection: Neo4jProjection, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each of its transactions has; the list grows with them."""
    sizes: list[int] = []
    write = projection._write

    async def noted(statement: str, rows: list[Row]) -> list[Row]:
        sizes.append(len(rows))
        return await write(statement, rows)

    monkeypatch.setattr(projection, "_write", noted)
    return sizes


async def test_an_unreachable_server_is_down() -> None:
    (port,) = free_ports(1)
    async with connect(f"bolt://{LOOPBACK}:{port}", "u", "p", retry_seconds=0) as driver:
        await _is_down(catalog_neo4j(driver, "graph"))


async def test_a_wrong_password_is_an_outage(graph_part: GraphPart) -> None:
    async with connect(graph_part.url, graph_part.user, "wrong", retry_seconds=0) as driver:
        await _is_down(catalog_neo4j(driver, graph_part.database))


async def test_a_missing_database_is_an_outage(driver: AsyncDriver) -> None:
    await _is_down(catalog_neo4j(driver, "nowhere"))


async def _is_down(projection: Neo4jProjection) -> None:
    item = upserted("a", 1)
    for call in (projection.prepare(), projection.apply([item]), anext(projection.scan())):
        with pytest.raises(DependencyDown, match="neo4j"):
            await call
    with pytest.raises(DependencyDown, match="neo4j"):
        await projection.versions([item.stream])


@pytest.mark.parametrize(
    ("value", "text"),
    [("red", "red"), (True, "true"), (3.0, "3"), (2.5, "2.5"), (1e300, "1e+300"), (-0.0, "-0")],
)
async def test_a_value_has_one_text(value: str | bool | float, text: str) -> None:
    assert to_text(value) == text
