"""Many writers of one graph: N1, N2, N5.

Without a real Neo4j (STACK_GRAPH) they run on ArcadeDB, which proves nothing about Neo4j.
"""

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from neo4j import AsyncDriver

from consumers.mappings.catalog import ITEM
from consumers.neo4j import client, projection
from consumers.neo4j.projection import Node, Shape
from consumers.projections.projection import Change, Projection, StreamKey
from consumers.projections.testing.conformance import assert_shows
from consumers.settings import Settings
from outbox.errors import StoreUnfit
from stack.part import GraphPart
from tests.kit.load.role import environment
from tests.kit.load.seed import seed
from tests.kit.planted.planted_shapes import HAS, Unlocked, over_items
from tests.kit.projections.projection_suite import CATALOG_ID, drop_constraints, upserted
from tests.kit.servers.graphs import Watch

pytestmark = pytest.mark.anyio

WRITERS = 32
HIGHEST = 8
CAUGHT_WITHIN_SECONDS = 120.0
EXIT_HALTED = 3
NAMES = ("a", "b", "c")
TWINS = f"UNWIND [1, 2] AS n CREATE (:Item {{key: '{CATALOG_ID}/a', version: n}})"


async def write_shuffled(projection: Projection, names: Sequence[str], writer: int) -> None:
    """Write every version of every key, in an order of this writer, cut anywhere.

    No writer ends a key with the highest version: without a fence some key surely ends lower.
    """
    chance = random.Random(f"{seed(5)} {writer}")
    order = [upserted(name, version) for name in names for version in range(1, HIGHEST)]
    chance.shuffle(order)
    for name in names:
        order.insert(chance.randrange(len(order) // 2), upserted(name, HIGHEST))
    while order:
        size = chance.randint(1, 5)
        await projection.apply(order[:size])
        del order[:size]


async def write_all(projection: Projection, names: Sequence[str]) -> None:
    async with asyncio.TaskGroup() as group:
        for writer in range(WRITERS):
            group.create_task(write_shuffled(projection, names, writer))


def watch_over(driver: AsyncDriver, database: str, names: Sequence[str]) -> Watch:
    """A watch with a projection of its own, which shares no bookmarks with the writers."""
    streams = [StreamKey(ITEM, f"{CATALOG_ID}/{name}") for name in names]
    return Watch(over_items(driver, database), streams)


async def test_thirty_two_writers_with_shuffled_versions_end_at_the_highest(
    driver: AsyncDriver, graph_part: GraphPart
) -> None:
    """N5: no version is ever seen to fall meanwhile."""
    projection = over_items(driver, graph_part.database)
    await projection.prepare()
    watch = watch_over(driver, graph_part.database, NAMES)
    async with watch.looking():
        await write_all(projection, NAMES)
    await watch.look()
    assert watch.fell == []
    assert watch.looks > 5
    await assert_shows(projection, [upserted(name, HIGHEST) for name in NAMES])


async def test_a_version_that_is_read_before_the_lock_is_caught_falling(
    driver: AsyncDriver, graph_part: GraphPart
) -> None:
    """N5 without its lock: 32 writers race between the comparison and the write."""
    if graph_part.stand_in:
        pytest.skip("ArcadeDB locks nothing: a transaction that met another fails at its commit")
    projection = over_items(driver, graph_part.database, Unlocked)
    await projection.prepare()
    async with asyncio.timeout(CAUGHT_WITHIN_SECONDS):
        for turn in count():
            names = [f"{name}{turn}" for name in NAMES]
            watch = watch_over(driver, graph_part.database, names)
            # Such a read may also look like a divergence; in the end the version must fall.
            with suppress(ExceptionGroup):
                async with watch.looking():
                    await write_all(projection, names)
            await watch.look()
            if watch.fell or await lower(projection, names):
                return


async def lower(projection: Projection, names: Sequence[str]) -> int:
    """How many keys have not ended at the highest version."""
    streams = [StreamKey(ITEM, f"{CATALOG_ID}/{name}") for name in names]
    shown = await projection.versions(streams)
    return sum(shown[stream].version < HIGHEST for stream in streams)


async def create_at_once(projection: Projection, name: str) -> None:
    """32 writers write a key that does not exist yet."""
    await asyncio.gather(
        *(projection.apply([upserted(name, version)]) for version in range(1, WRITERS + 1))
    )


async def nodes_of(driver: AsyncDriver, database: str, name: str) -> int:
    found = await driver.execute_query(
        "MATCH (n:Item {key: $key}) RETURN count(n)",
        key=f"{CATALOG_ID}/{name}",
        database_=database,
    )
    return int(found.records[0][0])


async def test_writers_that_create_a_key_at_once_make_one_node(
    driver: AsyncDriver, graph_part: GraphPart
) -> None:
    """N1: the unique constraint lets only one of them create it."""
    projection = over_items(driver, graph_part.database)
    await projection.prepare()
    for turn in range(5):
        await create_at_once(projection, f"new{turn}")
        assert await nodes_of(driver, graph_part.database, f"new{turn}") == 1
    await assert_shows(projection, [upserted(f"new{turn}", WRITERS) for turn in range(5)])


async def test_a_merge_without_the_constraint_is_caught_making_duplicates(
    driver: AsyncDriver, graph_part: GraphPart
) -> None:
    """M15, N1: the same writers, and `prepare` was never called."""
    await drop_constraints(driver, graph_part.database)
    projection = over_items(driver, graph_part.database)
    async with asyncio.timeout(CAUGHT_WITHIN_SECONDS):
        for turn in count():
            await create_at_once(projection, f"new{turn}")
            if await nodes_of(driver, graph_part.database, f"new{turn}") > 1:
                break
    with pytest.raises(StoreUnfit, match="unique `key` for Item"):
        await projection.prepare()


async def test_the_consumer_does_not_start_without_its_constraint_and_says_what_to_do(
    settings: Settings, driver: AsyncDriver, graph_part: GraphPart
) -> None:
    """N1: one line says what an operator must repair, and the exit code is its own."""
    await drop_constraints(driver, graph_part.database)
    await driver.execute_query(TWINS, database_=graph_part.database)
    consumer = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "consumers", "neo4j",
        env=environment(settings), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        _, said = await consumer.communicate()
    assert consumer.returncode == EXIT_HALTED
    last = json.loads(said.decode().splitlines()[-1])["event"]
    assert last.startswith("neo4j has no unique `key` for Item: merge the nodes that share a key")
    assert "Traceback" not in said.decode()


class Attempts:
    """Counts how often the driver has run one of our statements."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        run = client.run

        async def counted(*arguments: Any) -> list[dict[str, Any]]:
            self.made += 1
            return await run(*arguments)

        monkeypatch.setattr(projection, "run", counted)


def opposite(writer: int, turn: int) -> list[Change]:
    """Two items for one transaction; every other writer has their neighbours in reverse order."""
    colours = ("red", "blue")[:: 1 if writer % 2 else -1]
    return [
        upserted(f"w{writer:02}-t{turn}-{place}", 1, colour=colour)
        for place, colour in zip("ab", colours, strict=True)
    ]


async def test_writers_that_meet_in_opposite_order_are_repeated_until_all_is_there(
    driver: AsyncDriver, graph_part: GraphPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N2: deadlocks at shared neighbours (on ArcadeDB, conflicts) cost repetitions, nothing else.

    The statement is a pure function of its rows, so that the driver may run it again.
    """
    projection = over_items(driver, graph_part.database)
    await projection.prepare()
    attempts, writes, changes = Attempts(monkeypatch), 0, list[Change]()
    async with asyncio.timeout(CAUGHT_WITHIN_SECONDS):
        for turn in count():
            batches = [opposite(writer, turn) for writer in range(WRITERS // 2)]
            await asyncio.gather(*map(projection.apply, batches))
            writes += len(batches)
            changes += [change for batch in batches for change in batch]
            if attempts.made > writes and turn > 1:
                break
    await assert_shows(projection, changes)
    found = await driver.execute_query(
        "MATCH (n:Item)-[:HAS]->(a:Attribute) RETURN a.key, count(n)", database_=graph_part.database
    )
    half = len(changes) // 2
    assert dict(found.records) == {"colour=red": half, "colour=blue": half}


def test_the_neighbours_of_a_row_are_in_order() -> None:
    """N2: the order in which an event names them does not matter."""
    shape = Shape(ITEM, "Item", lambda _: Node(neighbours={"HAS": given}), (HAS,))
    given = [{"key": key} for key in "cab"]
    row = shape.build_row(upserted("a", 1))
    assert [other["key"] for other in row["edges"]["HAS"]] == ["a", "b", "c"]
