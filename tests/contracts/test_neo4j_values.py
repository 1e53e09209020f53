"""A graph holds the values that it can, and the others are refused by the name of the field."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest
from neo4j import AsyncDriver

from consumers.mappings.catalog import CATALOG, ITEM
from consumers.neo4j.node import MAX_INTEGER, MAX_KEY_BYTES, MIN_INTEGER
from consumers.neo4j.projection import Edge, Neo4jProjection, Node, Shape
from consumers.projections.projection import Change, StreamKey
from consumers.projections.testing.conformance import assert_shows
from consumers.projections.testing.sample import catalog_items
from outbox.errors import MessageRejected
from schemas.catalog import CatalogCreated
from tests.kit.projections.projection_suite import CATALOG_ID, removed, upserted

pytestmark = pytest.mark.anyio

MEGABYTE = "x" * 1_000_000
# A letter of four bytes, since the limit is in bytes.
LONGEST_KEY = "\U0001f600" * (MAX_KEY_BYTES // 4)


def holding(driver: AsyncDriver, database: str, node: Node) -> Neo4jProjection:
    """A projection that makes this node of every item, whatever its event is."""
    shape = Shape(ITEM, "Item", lambda _: node, edges=(Edge("HAS", "Attribute"),))
    return Neo4jProjection(driver, database, [shape], topics=())


@pytest.fixture
def projection(nodes: Neo4jProjection) -> Neo4jProjection:
    return nodes


async def records(driver: AsyncDriver, database: str, cypher: str) -> list[list[Any]]:
    result = await driver.execute_query(cypher, database_=database)
    return sorted(list(record.values()) for record in result.records)


HELD = {
    "largest": MAX_INTEGER,
    "smallest": MIN_INTEGER,
    "huge": 1.7976931348623157e308,
    "tiny": 5e-324,
    "true": True,
    "long": MEGABYTE,
    "nul": "a\0b",
    "emoji": "\U0001f600",
    "words": ["a", "b"],
}
CANNOT: list[tuple[str, Mapping[str, Any], str]] = [
    ("a nested map", {"value": {"a": {"b": 1}}}, "Item.value"),
    ("a map", {"value": {}}, "Item.value"),
    ("a list of maps", {"value": [{}]}, "Item.value"),
    ("a list of lists", {"value": [["a"]]}, "Item.value"),
    ("a list of two kinds", {"value": ["a", 1]}, "Item.value"),
    ("an integer above", {"value": MAX_INTEGER + 1}, "Item.value"),
    ("an integer below", {"value": MIN_INTEGER - 1}, "Item.value"),
    ("an integer in a list", {"value": [2**70]}, "Item.value"),
    ("not a number", {"value": math.nan}, "Item.value"),
    ("infinity", {"value": -math.inf}, "Item.value"),
    ("half a surrogate", {"value": "\ud800"}, "Item.value"),
    ("an object", {"value": object()}, "Item.value"),
]
HOSTILE = ["a`b", "a) DETACH DELETE (n", "", "a b", "1st", "_lock", "a.b", "a\0", "\u00e4", "$rows"]


async def test_what_a_graph_can_hold_comes_back_as_it_was(
    driver: AsyncDriver, database: str
) -> None:
    """N8: that includes a text of a megabyte; only keys are in an index."""
    projection = holding(driver, database, Node(HELD))
    await projection.prepare()
    await projection.apply([upserted("a", 1)])
    ((found,),) = await records(driver, database, "MATCH (n:Item) RETURN properties(n)")
    assert {name: found[name] for name in HELD} == HELD


@pytest.mark.parametrize(
    ("properties", "field"), [c[1:] for c in CANNOT], ids=[c[0] for c in CANNOT]
)
async def test_a_value_that_no_property_can_hold_is_refused_by_its_name(
    driver: AsyncDriver, database: str, properties: Mapping[str, Any], field: str
) -> None:
    """N8: at once, and as the message's fault, so that its key is parked; never as an outage."""
    await is_refused(holding(driver, database, Node(properties)), field)
    neighbour = Node(neighbours={"HAS": [{"key": "k", **properties}]})
    await is_refused(holding(driver, database, neighbour), field.replace("Item", "HAS"))
    assert await records(driver, database, "MATCH (n) RETURN n.key") == []


async def is_refused(projection: Neo4jProjection, field: str) -> None:
    await projection.prepare()
    with pytest.raises(MessageRejected) as refused:
        await projection.apply([upserted("a", 1)])
    assert refused.value.reason == "refused-by-store"
    assert [violation.field for violation in refused.value.violations] == [field]


async def test_the_longest_key_is_held_and_found(driver: AsyncDriver, database: str) -> None:
    """N8: it is a neighbour's key; the index of Neo4j takes no more than some 8 kB."""
    assert len(LONGEST_KEY.encode()) == MAX_KEY_BYTES
    node = Node(neighbours={"HAS": [{"key": LONGEST_KEY}]})
    projection = holding(driver, database, node)
    await projection.prepare()
    await projection.apply([upserted("a", 1)])
    await projection.apply([upserted("b", 1)])
    found = await records(driver, database, "MATCH (n:Attribute) RETURN size(n.key)")
    assert len(found) == 1, "each item has a neighbour of its own"


@pytest.mark.parametrize("key", [LONGEST_KEY + "x", MEGABYTE], ids=["a byte more", "a megabyte"])
async def test_a_longer_key_is_refused_by_its_name(
    driver: AsyncDriver, database: str, key: str
) -> None:
    """N8: as a neighbour's key, and as a node's own."""
    await is_refused(holding(driver, database, Node(neighbours={"HAS": [{"key": key}]})), "HAS.key")
    projection = holding(driver, database, Node())
    change = Change(StreamKey(ITEM, key), 1, "e", "d", False, upserted("a", 1).event)
    with pytest.raises(MessageRejected, match="subject"):
        await projection.apply([change])


@pytest.mark.parametrize("word", HOSTILE)
async def test_a_hostile_property_name_is_refused_and_not_repeated(
    driver: AsyncDriver, database: str, word: str
) -> None:
    """N9: labels and edge types never come from data, and property names must be plain words."""
    projection = holding(driver, database, Node({word: "x"}))
    await is_refused(projection, "Item")
    neighbour = Node(neighbours={"HAS": [{"key": "k", word: "x"}]})
    await is_refused(holding(driver, database, neighbour), "HAS")
    assert await records(driver, database, "MATCH (n) RETURN n.key") == []


async def test_a_refused_key_does_not_take_the_others_along(
    projection: Neo4jProjection,
) -> None:
    """N8: the test applies them one by one, as the runner repeats a refused batch."""
    good, bad = upserted("a", 1), upserted("b", 2**63)
    with pytest.raises(MessageRejected, match="sequence"):
        await projection.apply([good, bad])
    await projection.apply([good])
    await assert_shows(projection, [good])


async def test_a_delete_leaves_a_version_that_late_events_do_not_pass(
    projection: Neo4jProjection, driver: AsyncDriver, database: str
) -> None:
    """N6: the late events leave no edges either."""
    sample = catalog_items()
    gone = sample.removed("a", 3)
    await projection.apply([sample.upserted("a", 1), gone])
    for version in (2, 1):
        await projection.apply([sample.upserted("a", version)])
    await assert_shows(projection, [gone])
    assert await records(driver, database, "MATCH (:Item)-[r]-() RETURN type(r)") == []


async def test_every_order_of_nodes_and_edges_ends_in_the_same_graph(
    projection: Neo4jProjection, driver: AsyncDriver, database: str
) -> None:
    """N7: an edge before its neighbour makes a placeholder at version 0, which is filled later."""
    changes = [catalog(), upserted("a", 1, colour="red"), upserted("b", 1, colour="red")]
    changes.append(removed("b", 2))
    seen = []
    for order in itertools.permutations(changes):
        await driver.execute_query("MATCH (n) DETACH DELETE n", database_=database)
        for change in order:
            await projection.apply([change])
        seen.append(await whole(driver, database))
    assert all(each == seen[0] for each in seen)
    assert ["Catalog", CATALOG_ID, 1] in seen[0][0]
    assert [CATALOG_ID, "CONTAINS", f"{CATALOG_ID}/a"] in seen[0][1]


async def test_an_edge_to_an_unknown_neighbour_makes_a_placeholder_that_nobody_reads(
    projection: Neo4jProjection, driver: AsyncDriver, database: str
) -> None:
    """N7: the placeholder has version 0 until the neighbour's own event comes."""
    await projection.apply([upserted("a", 1)])
    assert await records(driver, database, "MATCH (c:Catalog) RETURN c.key, c.version") == [
        [CATALOG_ID, 0]
    ]
    assert await projection.versions([catalog().stream]) == {}
    await projection.apply([catalog()])
    assert (await projection.versions([catalog().stream]))[catalog().stream].version == 1


def catalog() -> Change:
    event = CatalogCreated(catalog_id=CATALOG_ID, name="The suite")
    return Change(StreamKey(CATALOG, CATALOG_ID), 1, "catalog@1", "d", False, event)


async def whole(driver: AsyncDriver, database: str) -> tuple[list[Any], list[Any]]:
    """All nodes and edges, without the nodes of values: unused ones may or may not be there."""
    nodes = "MATCH (n) WHERE NOT n:Attribute RETURN labels(n)[0], n.key, n.version"
    edges = "MATCH (n)-[r]->(m) RETURN n.key, type(r), m.key"
    return await records(driver, database, nodes), await records(driver, database, edges)
