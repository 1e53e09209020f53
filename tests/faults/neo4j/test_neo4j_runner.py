"""A consumer over the graph: which failures make dead letters, and what flows beside them.

Without a real Neo4j (STACK_GRAPH) it runs on ArcadeDB, which proves nothing about Neo4j.
"""

import math
from collections.abc import AsyncIterator

import pytest
from neo4j import AsyncDriver

from consumers.mappings.catalog import ITEM, ITEM_TOPIC, item_node
from consumers.neo4j.projection import Neo4jProjection, Node, Shape
from consumers.projections.projection import Change
from consumers.projections.testing.conformance import assert_shows
from consumers.projections.testing.sample import catalog_items
from consumers.settings import Settings
from outbox.kafka import count_unread
from stack.part import GraphPart
from tests.kit.load.roles import projecting, running
from tests.kit.operations.open_letters import list_dead_letters
from tests.kit.projections.changes import send_changes
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

sample = catalog_items()
CHANGES = [sample.upserted(name, version) for version in (1, 2) for name in "abcdef"]
FIRST, HEADS = CHANGES[:6], CHANGES[6:]
BAD = CHANGES[2]
WITHIN_SECONDS = 60.0


def described(change: Change) -> Node:
    """The item with its properties; BAD has a weight that no graph should hold."""
    properties = item_node(change).properties
    return Node({**properties, "weight": math.nan if change.digest == BAD.digest else 1.0})


@pytest.fixture
async def projection(driver: AsyncDriver, graph_part: GraphPart) -> AsyncIterator[Neo4jProjection]:
    shape = Shape(ITEM, "Item", described)
    yield Neo4jProjection(driver, graph_part.database, [shape], topics=[ITEM_TOPIC])


async def consumed(settings: Settings) -> None:
    """Wait until everything that was sent is applied, or is a dead letter."""

    async def done() -> bool:
        return await count_unread(settings.kafka_url, "aftercommit.neo4j", [ITEM_TOPIC]) == 0

    await until(done, WITHIN_SECONDS)


async def test_a_value_that_no_graph_holds_parks_its_key_and_everything_else_flows(
    settings: Settings, projection: Neo4jProjection
) -> None:
    """N8: it is refused at once, by the name of the field; later messages of its key wait."""
    async with running(projecting(settings, projection)):
        await send_changes(settings, FIRST)
        await consumed(settings)
        await send_changes(settings, HEADS)
        await consumed(settings)
    dead, waiting = await list_dead_letters(settings, 10)
    assert (dead["status"], dead["reason"]) == ("dead", "refused-by-store")
    assert "Item.weight" in dead["error"]
    assert (waiting["status"], waiting["stream"]) == ("waiting", dead["stream"])
    await assert_shows(projection, [head for head in HEADS if head.stream != BAD.stream])


async def test_a_divergence_parks_its_key(
    settings: Settings, driver: AsyncDriver, graph_part: GraphPart
) -> None:
    """The stored entry stays, and an operator sees one dead letter that names the key."""
    shape = Shape(ITEM, "Item", item_node)
    projection = Neo4jProjection(driver, graph_part.database, [shape], topics=[ITEM_TOPIC])
    twin = sample.twin("a", 1)
    async with running(projecting(settings, projection)):
        await send_changes(settings, [*FIRST, twin, *HEADS])
        await consumed(settings)
    dead, waiting = await list_dead_letters(settings, 10)
    assert (dead["status"], dead["reason"]) == ("dead", "diverged")
    assert twin.stream.key in dead["error"]
    assert waiting["status"] == "waiting"
    await assert_shows(projection, [FIRST[0], *HEADS[1:]])
