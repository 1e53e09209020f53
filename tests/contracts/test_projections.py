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

from consumers.mappings.catalog import ITEM, ITEM_SHAPE, ITEM_TOPIC, catalog_neo4j, catalog_qdrant
from consumers.neo4j.projection import Neo4jProjection, Shape
from consumers.projections.projection import Change, Projection, keep_latest
from consumers.projections.testing import conformance
from consumers.projections.testing.conformance import PROMISES, Promise
from consumers.projections.testing.memory import MemoryProjection
from consumers.projections.testing.sample import catalog_items
from services.local_qdrant import LocalQdrant
from stack.part import GraphPart
from tests.kit.projections.projection_suite import CountingEmbedder, empty_graph, removed, upserted

DIVERGENCE = (
    conformance.a_divergence_is_loud_and_overwrites_nothing,
    conformance.a_divergence_stops_its_key_and_no_other,
    conformance.a_divergence_inside_a_batch_is_loud,
)
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
        on_disk = kind == "qdrant on disk"
        client = LocalQdrant(folder) if on_disk else AsyncQdrantClient(location=":memory:")
        yield catalog_qdrant(client, CountingEmbedder())
        await client.close()


@pytest.mark.anyio
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_a_projection_keeps(promise: Promise, projection: Projection) -> None:
    """Q1, Q2, N6: every promise, by every projection; Qdrant is its stand-in, local mode."""
    await promise(projection, catalog_items())


def change(item: str, version: int, gone: bool) -> Change:
    return removed(item, version) if gone else upserted(item, version)


@st.composite
def deliveries(draw: st.DrawFn) -> list[list[Change]]:
    """Histories of a few keys, with deletes and repeats, in any order, cut into batches."""
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
    """C13, C14: an event carries the whole state, so a late one may be ignored."""
    anyio.run(conformance.assert_ends_at_the_highest, memory(), batches)


@settings(max_examples=40, deadline=None)
@given(deliveries())
def test_any_order_with_repeats_ends_at_the_highest_in_qdrant(batches: list[list[Change]]) -> None:
    """C13, C14: the same promise in local mode, a stand-in."""

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
    """C13, C14: the same promise in a graph."""

    async def example() -> None:
        async with empty_graph(graph_part) as driver:
            graph = catalog_neo4j(driver, graph_part.database)
            await _prepared_then_ends_at_the_highest(graph, batches)

    anyio.run(example)


async def _prepared_then_ends_at_the_highest(
    projection: Projection, batches: list[list[Change]]
) -> None:
    await projection.prepare()
    await conformance.assert_ends_at_the_highest(projection, batches)


class Unfenced(Shape):
    """A planted mistake: the statement does not compare versions."""

    @property
    def statement(self) -> str:
        return changed(ITEM_SHAPE.statement, " AND shown.version < row.node.version", "")


class Unheard(Shape):
    """A planted mistake: the statement does not compare the events of a version."""

    @property
    def statement(self) -> str:
        return changed(ITEM_SHAPE.statement, "IN row.claims + row.node", "IN []")


def changed(statement: str, right: str, wrong: str) -> str:
    assert statement.count(right) == 1
    return statement.replace(right, wrong)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "promise",
    [
        conformance.concurrent_writers_end_at_the_highest,
        conformance.a_late_write_does_not_resurrect,
    ],
    ids=lambda promise: promise.__name__,
)
async def test_the_suite_notices_cypher_without_the_version(
    promise: Promise, driver: AsyncDriver, graph_part: GraphPart
) -> None:
    await breaks(promise, planted(Unfenced, driver, graph_part.database))


@pytest.mark.anyio
@pytest.mark.parametrize("promise", DIVERGENCE[:2], ids=lambda promise: promise.__name__)
async def test_the_suite_notices_cypher_that_does_not_compare_events(
    promise: Promise, driver: AsyncDriver, graph_part: GraphPart
) -> None:
    await breaks(promise, planted(Unheard, driver, graph_part.database))


def planted(kind: type[Shape], driver: AsyncDriver, database: str) -> Neo4jProjection:
    shape = kind(ITEM_SHAPE.aggregate, "Item", ITEM_SHAPE.describe, ITEM_SHAPE.edges)
    return Neo4jProjection(driver, database, [shape], topics=[ITEM_TOPIC])


async def breaks(promise: Promise, projection: Projection) -> None:
    await projection.prepare()
    with pytest.raises(conformance.BrokenPromise):
        await promise(projection, catalog_items())


class Forgetful(MemoryProjection):
    """A planted mistake: the change that comes last wins."""

    async def apply(self, changes: Sequence[Change]) -> None:
        self.state |= {change.stream: change for change in changes}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "promise",
    [
        conformance.batches_equal_singles,
        conformance.a_late_write_does_not_resurrect,
        conformance.a_delete_can_come_first_and_be_outlived,
        conformance.concurrent_writers_end_at_the_highest,
    ],
    ids=lambda promise: promise.__name__,
)
async def test_the_suite_notices_a_store_without_a_fence(promise: Promise) -> None:
    with pytest.raises(conformance.BrokenPromise):
        await promise(Forgetful([ITEM], [ITEM_TOPIC]), catalog_items())


class Deaf(MemoryProjection):
    """A planted mistake: the second event of a version is dropped without an error."""

    async def apply(self, changes: Sequence[Change]) -> None:
        for change in keep_latest(changes):
            known = self.state.get(change.stream)
            if known is None or known.version < change.version:
                self.state[change.stream] = change


@pytest.mark.anyio
@pytest.mark.parametrize("promise", DIVERGENCE, ids=lambda promise: promise.__name__)
async def test_the_suite_notices_a_store_that_is_silent_about_a_divergence(
    promise: Promise,
) -> None:
    with pytest.raises(conformance.BrokenPromise):
        await promise(Deaf([ITEM], [ITEM_TOPIC]), catalog_items())
