"""A rebuild beside live traffic: readers see one generation, whole, and parity is exact."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from neo4j import AsyncManagedTransaction
from qdrant_client import AsyncQdrantClient

from consumers.assembly import live_vectors
from consumers.neo4j.client import connect, run
from consumers.projections.generations import LiveProjection
from consumers.projections.testing.conformance import read_all
from consumers.qdrant.projection import QdrantProjection
from consumers.rebuild.journal import Phase, Rebuild
from consumers.rebuild.rebuild import drop, rebuild_through_outages
from consumers.settings import Settings
from outbox.relay.relay import Relay
from services.assembly import qdrant
from services.catalog.embedder import MODELS, WordLlamaEmbedder
from services.catalog.search import Search
from tests.kit.load.length import seconds, times
from tests.kit.load.roles import projecting, running
from tests.kit.projections.rebuilding import (
    BUSY,
    SEARCHED,
    Connection,
    asked,
    in_step,
    live_number,
    publish_items,
    writing,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(int(seconds(600, 7_200)))]

STILL = "still"
ITEMS = times(400, 100_000)
PAUSE_SECONDS = seconds(0.005, 2.0)  # local mode looks at every point for each search
EMBEDDER = WordLlamaEmbedder()

Seen = list[tuple[str, float, int]]


@pytest.fixture
async def client(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncQdrantClient]:
    """A client in local mode, which sorts all points for each page: so pages are large."""
    monkeypatch.setattr(QdrantProjection, "page_points", 10_000)
    client = qdrant(settings.model_copy(update={"qdrant_url": ":memory:"}))
    yield client
    await client.close()


@pytest.fixture
async def store(
    client: AsyncQdrantClient, settings: Settings, postgres: Connection
) -> AsyncIterator[LiveProjection]:
    """A store in local mode, which blocks the loop: so its consumer's session is long."""
    patient = settings.model_copy(update={"session_timeout_milliseconds": 60_000})
    store = live_vectors(client, EMBEDDER)
    async with followed(patient, postgres, store):
        yield store


@asynccontextmanager
async def followed(
    settings: Settings, postgres: Connection, store: LiveProjection
) -> AsyncIterator[None]:
    """Inside the block, the store holds many items that no writer changes any more.

    Its consumer and the relay are running.
    """
    await store.prepare()
    await publish_items(postgres, STILL, ITEMS)
    async with running(Relay(settings), projecting(settings, store)):
        await in_step(postgres, store)
        yield


@dataclass
class Searcher:
    """Repeats a search of the service; keeps each answer that differs from the last."""

    search: Search
    answers: list[Seen]
    asked: int = 0

    async def ask(self) -> Seen:
        """All hits. Scores are rounded: their last digits depend on the rest of the collection."""
        hits = await self.search.query(STILL, "tower", {"searched": "yes"}, 2 * SEARCHED, 0)
        return sorted((hit.item_id, round(hit.score, 4), hit.version) for hit in hits)

    async def run(self) -> None:
        while True:
            answer = await self.ask()
            self.asked += 1
            if not self.answers or answer != self.answers[-1]:
                self.answers.append(answer)
            await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def searching(client: AsyncQdrantClient) -> AsyncIterator[Searcher]:
    searcher = Searcher(Search(lambda: client, EMBEDDER), [])
    task = asyncio.create_task(searcher.run())
    try:
        yield searcher
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait([task])


def took(done: Rebuild) -> str:
    assert done.finished_at is not None
    seconds_taken = (done.finished_at - done.started_at).total_seconds()
    return f"{done.action}: {seconds_taken:.1f} s, {done.brought} brought, {done.checks} checks"


async def test_searches_see_the_old_or_the_new_whole_while_writers_go_on(
    settings: Settings,
    postgres: Connection,
    client: AsyncQdrantClient,
    store: LiveProjection,
    tell: Callable[[str], None],
) -> None:
    """Q11, on the stand-in: to another model and back; the scores say which model answered."""
    async with searching(client) as searcher, writing(settings) as written:
        old = await searcher.ask()
        done = await rebuild_through_outages(settings, store.generations, asked(model=MODELS[64]))
        new = await searcher.ask()
        assert (done.phase, done.generation, await live_number(store)) == (Phase.DONE, 2, 2)
        assert len(old) == len(new) == SEARCHED
        assert old != new
        before = written[0]
        back = await rebuild_through_outages(settings, store.generations, asked("rollback"))
        assert (back.phase, back.generation, await live_number(store)) == (Phase.DONE, 1, 1)
        assert await searcher.ask() == old
    assert searcher.answers == [old, new, old], "neither a mixture nor a way back"
    tell(
        f"{ITEMS} keys, {searcher.asked} searches, {written[0]} writes; {took(done)}; {took(back)}"
    )
    assert searcher.asked > 10
    assert written[0] > before > 10, "nobody wrote meanwhile"
    await in_step(postgres, store)
    assert {stream.key.split("/")[0] for stream in await read_all(store)} == {STILL, BUSY}


READ_LIVE = 'MATCH (g:Generation {key: "neo4j"}) RETURN g.live AS live'
READ_ITEMS = """MATCH (c:Catalog{suffix} {{key: $catalog}})-[:CONTAINS]->(i:Item{suffix})
OPTIONAL MATCH (i)-[:HAS]->(a:Attribute{suffix})
RETURN count(DISTINCT i) AS items, count(a) AS attributes"""

Counted = tuple[int, int, int]


async def counted(transaction: AsyncManagedTransaction) -> Counted:
    """Read the live generation as consumers/neo4j/generations.py tells readers to."""
    (one,) = await run(transaction, READ_LIVE)
    suffix = "" if one["live"] == 1 else f"_{one['live']}"
    (row,) = await run(transaction, READ_ITEMS.format(suffix=suffix), {"catalog": STILL})
    return one["live"], row["items"], row["attributes"]


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[list[Counted]]:
    """Read again and again inside the block; yields each answer that differs from the last."""
    answers: list[Counted] = []

    async def read() -> None:
        password = settings.neo4j_password.get_secret_value()
        async with (
            connect(settings.neo4j_url, settings.neo4j_user, password) as driver,
            driver.session(database=settings.neo4j_database) as session,
        ):
            while True:
                answer = await session.execute_read(counted)
                if answer not in answers[-1:]:
                    answers.append(answer)
                await asyncio.sleep(0.02)

    task = asyncio.create_task(read())
    try:
        yield answers
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_readers_of_the_graph_see_the_old_or_the_new_whole_while_writers_go_on(
    settings: Settings, postgres: Connection, graph: LiveProjection, tell: Callable[[str], None]
) -> None:
    """All labels switch at once, and back; then the generation that is not live is dropped."""
    async with followed(settings, postgres, graph):
        async with reading(settings) as answers, writing(settings) as written:
            want = asked(projection="neo4j")
            done = await rebuild_through_outages(settings, graph.generations, want)
            assert (done.phase, done.generation, await live_number(graph)) == (Phase.DONE, 2, 2)
            before = written[0]
            back = asked("rollback", projection="neo4j", now=True)
            ended = await rebuild_through_outages(settings, graph.generations, back)
            assert (ended.phase, ended.generation, await live_number(graph)) == (Phase.DONE, 1, 1)
        assert answers == [(n, ITEMS, min(ITEMS, SEARCHED)) for n in (1, 2, 1)]
        assert written[0] > before > 20
        await in_step(postgres, graph)
    tell(f"{ITEMS} keys, {written[0]} writes; {took(done)}; {took(ended)}")
    await drop(settings, graph.generations, 2, asked(projection="neo4j").operation)
    assert [each.number for each in await graph.generations.list_generations()] == [1]
