"""A commit whose answer is lost is neither repeated by the driver nor applied twice: N3, N4.

Without a real Neo4j (STACK_GRAPH) they run on ArcadeDB, which proves nothing about Neo4j.
"""

import ast
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from neo4j import AsyncDriver

from consumers.neo4j.projection import Neo4jProjection, Shape, connect
from consumers.projections.testing.conformance import assert_shows
from consumers.runner.failures import RetryBackoff, retry_through_outages
from outbox.errors import DependencyDown, MessageRejected
from stack.part import GraphPart
from tests.kit.planted.planted_shapes import Counted, Suspicious, over_items
from tests.kit.projections.projection_suite import upserted
from tests.kit.proxies.bolt_proxy import BoltProxy
from tests.kit.proxies.postgres_proxy import Cut

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("delivered", [True, False], ids=["done", "not done"])
EFFECTS = "MATCH (e:Effect) RETURN e.key, e.times"
ONCE = [(upserted("a", 1).event_id, 1)]
ROOT = Path(__file__).parents[3]
CODE = sorted(ROOT.glob("consumers/**/*.py"))


@pytest.fixture
async def bolt(graph_part: GraphPart) -> AsyncIterator[BoltProxy]:
    """A proxy before the graph."""
    async with BoltProxy(graph_part.url) as proxy:
        yield proxy


class Store:
    """A projection behind the proxy, and a view of the graph past the proxy."""

    def __init__(self, bolt: BoltProxy, part: GraphPart, driver: AsyncDriver) -> None:
        self._bolt, self._part, self._driver = bolt, part, driver

    def through(self) -> AsyncDriver:
        part = self._part
        return connect(self._bolt.url, part.user, part.password.get_secret_value())

    async def prepared(self, driver: AsyncDriver, kind: type[Shape]) -> Neo4jProjection:
        projection = over_items(driver, self._part.database, kind)
        await projection.prepare()
        return projection

    async def effects(self) -> list[tuple[str, int]]:
        found = await self._driver.execute_query(EFFECTS, database_=self._part.database)
        return [(key, times) for key, times in found.records]


@pytest.fixture
def store(bolt: BoltProxy, graph_part: GraphPart, driver: AsyncDriver) -> Store:
    return Store(bolt, graph_part, driver)


async def cut_while_applying(bolt: BoltProxy, projection: Neo4jProjection, delivered: bool) -> None:
    """Apply changes while the connection ends at the COMMIT, so that its outcome is unknown."""
    bolt.cut = cut = Cut(delivered=delivered)
    with pytest.raises(DependencyDown, match="neo4j is down"):
        await projection.apply([upserted("a", 1)])
    assert cut.happened.is_set()
    assert cut.seen == 1, "the driver has repeated a commit"


@BOTH
async def test_a_lost_answer_to_a_commit_is_an_outage_and_its_repetition_one_effect(
    bolt: BoltProxy, store: Store, delivered: bool
) -> None:
    """N3: the driver does not repeat it; the consumer does, as after every outage."""
    async with store.through() as through:
        projection = await store.prepared(through, Counted)
        await cut_while_applying(bolt, projection, delivered)
        assert await store.effects() == (ONCE if delivered else [])
        backoff = RetryBackoff(0.01, 0.1)
        await retry_through_outages(
            lambda: projection.apply([upserted("a", 1)]), backoff, asyncio.Event()
        )
        assert await store.effects() == ONCE
        await assert_shows(projection, [upserted("a", 1)])


async def test_a_repeated_commit_that_counts_as_a_failure_is_caught_parking_what_was_applied(
    bolt: BoltProxy, store: Store
) -> None:
    """M20, N3: the message is applied, and becomes a dead letter, too: it is counted twice."""
    async with store.through() as through:
        projection = await store.prepared(through, Suspicious)
        await cut_while_applying(bolt, projection, delivered=True)
        with pytest.raises(MessageRejected, match="diverged"):
            await projection.apply([upserted("a", 1)])
        assert await store.effects() == ONCE


async def test_without_a_cut_all_commits_pass_the_proxy(bolt: BoltProxy, store: Store) -> None:
    async with store.through() as through:
        projection = await store.prepared(through, Counted)
        await projection.apply([upserted("a", 1)])
    assert await store.effects() == ONCE
    assert bolt.accepted >= 1


def outside_transactions(source: str) -> list[str]:
    """The calls that run a query alone: `execute_query`, and `run` without a transaction."""
    return [
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (
            node.func.attr == "execute_query"
            or (node.func.attr == "run" and ast.unparse(node.func.value) in ("session", "driver"))
        )
    ]


def test_no_query_of_ours_commits_itself() -> None:
    """N4: the driver repeats only queries in a transaction function."""
    found = {
        file.relative_to(ROOT).as_posix(): outside_transactions(file.read_text("utf-8"))
        for file in CODE
    }
    assert {name: calls for name, calls in found.items() if calls} == {}
    assert "consumers/neo4j/projection.py" in found


@pytest.mark.parametrize(
    "call", ["session.run(q)", "driver.execute_query(q)", "(await session.run(q))"]
)
def test_a_query_that_commits_itself_is_caught(call: str) -> None:
    """N4: the check finds such a query where it is planted."""
    assert outside_transactions(f"async def work(session, driver, q):\n    {call}")
