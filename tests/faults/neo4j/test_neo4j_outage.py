"""The graph is killed, stopped for a while, or hangs: N10.

Without a real Neo4j (STACK_GRAPH) they run on ArcadeDB, which proves nothing about Neo4j.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

from consumers.mappings.catalog import ITEM, catalog_neo4j
from consumers.neo4j.projection import connect
from consumers.projections.projection import StreamKey
from consumers.settings import Settings
from outbox.errors import DependencyDown
from outbox.relay.relay import Relay
from schemas.catalog import ItemUpserted
from stack.part import GraphPart
from stack.servers.graph.own_server import OwnGraphServer
from tests.kit.load.load import Load
from tests.kit.load.role import Role
from tests.kit.load.roles import running
from tests.kit.projections.projection_suite import upserted
from tests.kit.proxies.bolt_proxy import BoltProxy
from tests.kit.proxies.toxics import Timeout
from tests.kit.servers.graphs import Watch, own_graph
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

KEYS = 10
PER_SECOND = 40.0
WITHIN_SECONDS = 90.0
MENDED_SECONDS = 240.0
ANSWER_SECONDS = 2.0
HEADS = "SELECT aggregateid, version FROM outbox.streams WHERE aggregatetype = %s"
STREAMS = [StreamKey(ITEM, f"c/item-{number}") for number in range(KEYS)]


def version_of_item(number: int) -> ItemUpserted:
    return ItemUpserted(catalog_id="c", item_id=f"item-{number % KEYS}", name=f"{number}", text="t")


class Items(Load):
    """Publishes versions of a few items at a steady rate until the block ends."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, PER_SECOND, version_of_item)

    async def grown(self, by: int) -> None:
        goal = self.written + by

        async def there() -> bool:
            return self.written >= goal

        await until(there, WITHIN_SECONDS)


async def killed(server: OwnGraphServer) -> Callable[[], Awaitable[None]]:
    await server.kill()
    return server.start


async def paused(server: OwnGraphServer) -> Callable[[], Awaitable[None]]:
    assert server.pid is not None
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)

    async def resume() -> None:
        os.kill(pid, signal.SIGCONT)

    return resume


def settings_of(settings: Settings, part: GraphPart) -> Settings:
    """Settings for this graph, whose answers are soon too late."""
    return settings.model_copy(
        update={
            "neo4j_url": part.url,
            "neo4j_user": part.user,
            "neo4j_password": part.password,
            "neo4j_database": part.database,
            "neo4j_answer_seconds": ANSWER_SECONDS,
        }
    )


@pytest.mark.faults_only
@pytest.mark.timeout(900)
async def test_a_graph_that_comes_back_is_up_to_date_again_and_in_order(
    settings: Settings,
    postgres: psycopg.AsyncConnection,
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    """N10: after SIGSTOP and after kill -9 no version falls, none is missing, and the outage
    costs no dead letter."""
    async with await own_graph(tmp_path / "own") as server:
        there = settings_of(settings, server.part)
        async with observed(there) as watch, running(Relay(there)), Role("neo4j", there) as role:
            for fault in (paused, killed):
                before = len(complaints(role))
                async with Items(there) as items:
                    await until(lambda: shows_all(watch), WITHIN_SECONDS)
                    mend = await fault(server)
                    await until(partial(waits, role, before), WITHIN_SECONDS)
                    await items.grown(KEYS)
                    await mend()
                since = time.monotonic()
                await until(lambda: up_to_date(watch, postgres), MENDED_SECONDS)
                tell(f"{fault.__name__}: up to date after {time.monotonic() - since:.1f} s")
    assert watch.fell == []
    assert await letters(postgres) == 0


@asynccontextmanager
async def observed(settings: Settings) -> AsyncIterator[Watch]:
    """A view of the graph that does not pass the consumer."""
    password = settings.neo4j_password.get_secret_value()
    async with connect(
        settings.neo4j_url, settings.neo4j_user, password, retry_seconds=0
    ) as driver:
        seen = catalog_neo4j(driver, settings.neo4j_database, answer_seconds=ANSWER_SECONDS)
        watch = Watch(seen, STREAMS)
        async with watch.looking():
            yield watch


async def shows_all(watch: Watch) -> bool:
    return all(watch.shown.get(stream, 0) > 0 for stream in STREAMS)


async def waits(consumer: Role, before: int) -> bool:
    return len(complaints(consumer)) > before


def complaints(consumer: Role) -> list[str]:
    """The log lines in which the consumer said that the graph is down."""
    said = [line["error"] for line in consumer.events("waiting for a dependency")]
    return [error for error in said if "neo4j is down" in error]


async def up_to_date(watch: Watch, postgres: psycopg.AsyncConnection) -> bool:
    rows = await (await postgres.execute(HEADS, [ITEM])).fetchall()
    return watch.shown == {StreamKey(ITEM, key): version for key, version in rows}


async def letters(postgres: psycopg.AsyncConnection) -> int:
    row = await (await postgres.execute("SELECT count(*) FROM outbox.dead_letters")).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_graph_that_hangs_is_down_within_the_limit_and_keeps_nobody(
    graph_part: GraphPart,
) -> None:
    """N10: the driver alone would wait for ever, here even when it is closed."""
    password = graph_part.password.get_secret_value()
    async with asyncio.timeout(WITHIN_SECONDS), BoltProxy(graph_part.url) as bolt:
        async with connect(bolt.url, graph_part.user, password, retry_seconds=0) as driver:
            patient = catalog_neo4j(driver, graph_part.database)
            await patient.prepare()
            await patient.apply([upserted("a", 1)])
            graph = catalog_neo4j(driver, graph_part.database, answer_seconds=ANSWER_SECONDS)
            with bolt.toxic(Timeout()):
                for call in (graph.apply([upserted("a", 2)]), graph.versions(STREAMS)):
                    await is_late(call)
            await patient.apply([upserted("a", 2)])
        assert bolt.accepted > 1


async def is_late(call: Awaitable[object]) -> None:
    with pytest.raises(DependencyDown, match=f"no answer within {ANSWER_SECONDS:g} s"):
        await call
