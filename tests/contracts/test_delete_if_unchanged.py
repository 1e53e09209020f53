"""Deletion of unchanged entries: the graph keeps shared nodes, and the suite notices mistakes."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from neo4j import AsyncDriver
from qdrant_client import AsyncQdrantClient, models

from consumers.mappings.catalog import (
    CATALOG,
    ITEM,
    ITEM_SHAPE,
    ITEM_TOPIC,
    catalog_neo4j,
    catalog_qdrant,
)
from consumers.neo4j.projection import Neo4jProjection, Shape
from consumers.projections.projection import Change, Entry, StreamKey
from consumers.projections.testing import conformance
from consumers.projections.testing.conformance import BrokenPromise, Promise, assert_shows, entry_of
from consumers.projections.testing.memory import MemoryProjection
from consumers.projections.testing.sample import catalog_items
from consumers.qdrant import points
from schemas.catalog import CatalogCreated
from stack.part import GraphPart
from tests.kit.projections.projection_suite import CountingEmbedder, upserted

pytestmark = pytest.mark.anyio

FENCED = [
    conformance.delete_if_unchanged_takes_exactly_what_was_seen,
    conformance.delete_if_unchanged_never_takes_what_came_since,
]
named = pytest.mark.parametrize("promise", FENCED, ids=lambda promise: promise.__name__)


@named
async def test_the_suite_notices_a_dict_that_forgets_by_key(promise: Promise) -> None:
    class ByKey(MemoryProjection):
        """A planted mistake: it deletes whatever the key has."""

        async def delete_if_unchanged(self, entries: Sequence[Entry]) -> None:
            for each in entries:
                self.state.pop(each.stream, None)

    with pytest.raises(BrokenPromise):
        await promise(ByKey([ITEM], [ITEM_TOPIC]), catalog_items())


@named
async def test_the_suite_notices_a_filter_that_forgets_by_id(
    promise: Promise, client: AsyncQdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted mistake: the filter compares ids only; in Qdrant's stand-in, local mode."""

    def by_id(entries: Iterable[Entry]) -> models.Filter:
        return models.Filter(must=points.match_exactly(entries).must)

    monkeypatch.setattr("consumers.qdrant.projection.match_exactly", by_id)
    planted = catalog_qdrant(client, CountingEmbedder())
    await planted.prepare()
    with pytest.raises(BrokenPromise):
        await promise(planted, catalog_items())


class Unfenced(Shape):
    """A planted mistake: the statement does not compare the entry."""

    @property
    def delete_statement(self) -> str:
        fenced = ITEM_SHAPE.delete_statement
        assert fenced.count(COMPARISON) == 1
        return fenced.replace(COMPARISON, "")


COMPARISON = "\nWHERE n.version = row.version AND n.digest = row.digest AND n.deleted = row.deleted"


@named
async def test_the_suite_notices_cypher_that_forgets_by_key(
    promise: Promise, driver: AsyncDriver, graph_part: GraphPart
) -> None:
    shape = Unfenced(ITEM_SHAPE.aggregate, "Item", ITEM_SHAPE.describe, ITEM_SHAPE.edges)
    planted = Neo4jProjection(driver, graph_part.database, [shape], topics=[ITEM_TOPIC])
    await planted.prepare()
    with pytest.raises(BrokenPromise):
        await promise(planted, catalog_items())


def created(version: int) -> Change:
    event = CatalogCreated(catalog_id="suite", name="The suite")
    return Change(StreamKey(CATALOG, "suite"), version, f"suite@{version}", "d", False, event)


async def test_a_forgotten_node_takes_its_own_edges_and_no_others(
    driver: AsyncDriver, graph_part: GraphPart
) -> None:
    """An item is deleted with its edges; a catalog that has items stays, as a placeholder."""

    async def rows(cypher: str) -> list[tuple[Any, ...]]:
        result = await driver.execute_query(cypher, database_=graph_part.database)
        return sorted(tuple(record.values()) for record in result.records)

    graph = catalog_neo4j(driver, graph_part.database)
    await graph.prepare()
    changes = [created(1), upserted("a", 1, colour="red"), upserted("b", 1, colour="red")]
    await graph.apply(changes)
    await graph.delete_if_unchanged([entry_of(changes[1])])
    assert await rows("MATCH (n:Item) RETURN n.key") == [("suite/b",)]
    assert await rows("MATCH (n)-[r]->(m) RETURN n.key, type(r), m.key") == [
        ("suite", "CONTAINS", "suite/b"),
        ("suite/b", "HAS", "colour=red"),
    ]
    await graph.delete_if_unchanged([entry_of(changes[0])])
    await assert_shows(graph, changes[2:])
    placeholder = {"key": "suite", "version": 0}
    assert await rows("MATCH (c:Catalog)-->(n) RETURN properties(c), n.key") == [
        (placeholder, "suite/b")
    ]
    await graph.apply(changes)
    await assert_shows(graph, changes)
    assert await rows("MATCH (c:Catalog)-->(n:Item) RETURN c.name, n.key") == [
        ("The suite", "suite/a"),
        ("The suite", "suite/b"),
    ]
