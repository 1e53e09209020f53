"""Every projection keeps the promises of the suite, and the suite notices a broken one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from neo4j import AsyncDriver
from qdrant_client import AsyncQdrantClient

from consumers.catalog import ITEM, ITEM_SHAPE, ITEM_TOPIC, catalog_neo4j, catalog_qdrant
from consumers.memory import MemoryProjection
from consumers.neo4j import Neo4jProjection, Shape
from consumers.projection import Change, Projection
from stack.part import GraphPart
from tests.contracts import projection_suite as suite
from tests.contracts.projection_suite import Check, CountingEmbedder, empty_graph, removed, upserted

KINDS = ("memory", "qdrant in memory", "qdrant on disk", "neo4j over bolt")


def memory() -> MemoryProjection:
    return MemoryProjection([ITEM], [ITEM_TOPIC])


@pytest.fixture(params=KINDS)
async def projection(
    request: pytest.FixtureRequest, graph_part: GraphPart, tmp_path: Path
) -> AsyncIterator[Projection]:
    async with opened(request.param, graph_part, tmp_path) as made:
        await made.prepare()
        yield made


@asynccontextmanager
async def opened(kind: str, graph_part: GraphPart, folder: Path) -> AsyncIterator[Projection]:
    if kind == "memory":
        yield memory()
    elif kind == "neo4j over bolt":
        async with empty_graph(graph_part) as driver:
            yield catalog_neo4j(driver, graph_part.database)
    else:
        path = str(folder) if kind == "qdrant on disk" else None
        client = AsyncQdrantClient(location=None if path else ":memory:", path=path)
        yield catalog_qdrant(client, CountingEmbedder())
        await client.close()


@pytest.mark.anyio
@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda check: check.__name__)
async def test_a_projection_keeps(check: Check, projection: Projection) -> None:
    await check(projection)


@pytest.mark.anyio
async def test_preparing_twice_keeps_what_is_there(projection: Projection) -> None:
    await projection.apply([upserted("a", 1)])
    await projection.prepare()
    await suite.assert_shows(projection, [upserted("a", 1)])


def change(item: str, version: int, gone: bool) -> Change:
    return removed(item, version) if gone else upserted(item, version)


@st.composite
def deliveries(draw: st.DrawFn) -> list[list[Change]]:
    """Histories of a few keys, each version once a delete or not, in any order, with repeats."""
    history = [
        change(item, version, draw(st.booleans()))
        for item in ("a", "b", "c")
        for version in range(1, draw(st.integers(1, 5)) + 1)
    ]
    repeats = draw(st.lists(st.sampled_from(history), max_size=8))
    order = draw(st.permutations(history + repeats))
    size = draw(st.integers(1, len(order)))
    return [order[start : start + size] for start in range(0, len(order), size)]


@settings(max_examples=60, deadline=None)
@given(deliveries())
def test_any_order_with_repeats_ends_at_the_highest_in_memory(batches: list[list[Change]]) -> None:
    anyio.run(suite.ends_at_the_highest, memory(), batches)


@settings(max_examples=40, deadline=None)
@given(deliveries())
def test_any_order_with_repeats_ends_at_the_highest_in_qdrant(batches: list[list[Change]]) -> None:
    async def example() -> None:
        client = AsyncQdrantClient(location=":memory:")
        await _prepared_then_ends_at_the_highest(
            catalog_qdrant(client, CountingEmbedder()), batches
        )
        await client.close()

    anyio.run(example)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(deliveries())
def test_any_order_with_repeats_ends_at_the_highest_in_neo4j(
    graph_part: GraphPart, batches: list[list[Change]]
) -> None:
    async def example() -> None:
        async with empty_graph(graph_part) as driver:
            graph = catalog_neo4j(driver, graph_part.database)
            await _prepared_then_ends_at_the_highest(graph, batches)

    anyio.run(example)


async def _prepared_then_ends_at_the_highest(
    projection: Projection, batches: list[list[Change]]
) -> None:
    await projection.prepare()
    await suite.ends_at_the_highest(projection, batches)


class Unfenced(Shape):
    """A planted mistake: the statement without its version condition."""

    @property
    def statement(self) -> str:
        fenced = ITEM_SHAPE.statement
        assert fenced.count(CONDITION) == 1
        return fenced.replace(CONDITION, "")


CONDITION = " WHERE n.version < row.version"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "check",
    [suite.concurrent_writers_end_at_the_highest, suite.a_late_write_does_not_resurrect],
    ids=lambda check: check.__name__,
)
async def test_the_suite_notices_cypher_without_the_version(
    check: Check, driver: AsyncDriver, graph_part: GraphPart
) -> None:
    shape = Unfenced(ITEM_SHAPE.aggregate, "Item", ITEM_SHAPE.describe, ITEM_SHAPE.edges)
    planted = Neo4jProjection(driver, graph_part.database, [shape], topics=[ITEM_TOPIC])
    await planted.prepare()
    with pytest.raises(AssertionError):
        await check(planted)


class Forgetful(MemoryProjection):
    """A planted mistake: whatever comes last wins."""

    async def apply(self, changes: Sequence[Change]) -> None:
        self.state |= {change.stream: change for change in changes}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "check",
    [
        suite.batches_equal_singles,
        suite.a_late_write_does_not_resurrect,
        suite.a_delete_can_come_first_and_be_outlived,
        suite.concurrent_writers_end_at_the_highest,
    ],
    ids=lambda check: check.__name__,
)
async def test_the_suite_notices_a_store_without_a_fence(check: Check) -> None:
    with pytest.raises(AssertionError):
        await check(Forgetful([ITEM], [ITEM_TOPIC]))
