"""Wait: a write answers when the stores show it, or says what is pending and why.

Qdrant is its client's local mode, a stand-in; the graph, PostgreSQL, the relay, the runners and the
application are the real ones.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import httpx
import psycopg
import pytest
from qdrant_client import AsyncQdrantClient

from consumers.assembly import live_vectors
from consumers.projections.generations import LiveProjection
from consumers.projections.projection import Change, Entry, Projection, StreamKey
from consumers.projections.testing.memory import MemoryProjection
from consumers.read_your_writes import WaitedStores, wait_for
from consumers.settings import Settings
from outbox.errors import DependencyDown, build_rejection
from outbox.kafka import count_unread
from outbox.relay.relay import Relay
from outbox.write.database import Database
from schemas.catalog import CatalogCreated, ItemEvent
from services.assembly import catalog, qdrant
from services.catalog.embedder import WordLlamaEmbedder
from services.prefer_wait import Why
from stack.servers.port import free_ports
from tests.kit.load.role import Role
from tests.kit.load.roles import projecting, running
from tests.kit.operations.open_letters import list_dead_letters
from tests.kit.waiting import until
from web.app import application

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

EMBEDDER = WordLlamaEmbedder()
ITEMS = "/catalogs/airports/items"
JFK = StreamKey(ItemEvent.aggregate, "airports/JFK")
LONG = 60  # a busy machine takes its time; nobody waits longer than it takes
TOPICS = (CatalogCreated.topic, ItemEvent.topic)
AGGREGATES = (CatalogCreated.aggregate, ItemEvent.aggregate)


@asynccontextmanager
async def opened(projection: Projection, _: Settings) -> AsyncIterator[Projection]:
    yield projection


class Service:
    """The application over stores that can be waited for, and a caller of it."""

    def __init__(self, http: httpx.AsyncClient, stores: WaitedStores) -> None:
        self.http = http
        self.stores = stores

    @classmethod
    @asynccontextmanager
    async def over(
        cls, settings: Settings, *projections: Projection, client: Any = None
    ) -> AsyncIterator["Service"]:
        each = {one.name: partial(opened, one) for one in projections}
        async with (
            Database(settings, "catalog") as database,
            WaitedStores(settings, database, each) as stores,
        ):
            api = catalog(database, lambda: client or qdrant(settings), EMBEDDER, stores)
            transport = httpx.ASGITransport(application(api), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                http.timeout = httpx.Timeout(2 * LONG)
                yield cls(http, stores)

    async def create(self, wait: float | None = None) -> httpx.Response:
        new = {"catalog_id": "airports", "name": "Airports"}
        return await self.http.post("/catalogs", json=new, headers=_headers("new", wait))

    async def put(self, name: str, wait: float | None = None) -> httpx.Response:
        """A repetition of the same name is a repetition of the same command."""
        item = {"item_id": "JFK", "name": name, "text": f"{name}, an airport"}
        return await self.http.put(ITEMS, json={"items": [item]}, headers=_headers(name, wait))


def _headers(key: str, wait: float | None) -> dict[str, str]:
    return {"Idempotency-Key": key} | ({"Prefer": f"wait={wait:g}"} if wait is not None else {})


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[AsyncQdrantClient]:
    client = qdrant(settings)
    yield client
    await client.close()


@pytest.fixture
async def vectors(client: AsyncQdrantClient) -> LiveProjection:
    projection = live_vectors(client, EMBEDDER)
    await projection.prepare()
    return projection


class Refusing(MemoryProjection):
    """It never takes the name `bad`."""

    def __init__(self) -> None:
        super().__init__(AGGREGATES, TOPICS)

    async def apply(self, changes: Sequence[Change]) -> None:
        if any(getattr(change.event, "name", "") == "bad" for change in changes):
            raise build_rejection("refused-by-store", "name", "must not be bad")
        await super().apply(changes)


def one_pending(response: httpx.Response) -> dict[str, Any]:
    """The one key that a 202 says is pending."""
    assert response.status_code == 202, response.text
    answer = response.json()
    assert answer["result"], "a 202 says too what the command did"
    assert answer["pending_count"] == 1
    (pending,) = answer["pending"]
    assert (pending["aggregate"], pending["key"]) == JFK
    return dict(pending)


async def version_in(projection: Projection, stream: StreamKey = JFK) -> int:
    found = (await projection.versions([stream])).get(stream)
    return found.version if found else 0


async def is_behind(settings: Settings, projection: Projection) -> bool:
    group = f"aftercommit.{projection.name}"
    return await count_unread(settings.kafka_url, group, projection.topics) == 1


async def test_every_write_answers_as_ever_once_both_stores_show_it(
    settings: Settings,
    vectors: LiveProjection,
    graph: LiveProjection,
    client: AsyncQdrantClient,
) -> None:
    roles = (Relay(settings), projecting(settings, vectors), projecting(settings, graph))
    async with (
        Service.over(settings, vectors, graph, client=client) as service,
        running(*roles),
    ):
        responses = [await service.create(wait=LONG)]
        assert await version_in(graph, StreamKey(CatalogCreated.aggregate, "airports")) == 1
        responses.append(await service.put("Idlewild", wait=LONG))
        assert (await version_in(vectors), await version_in(graph)) == (1, 1)
        found = await service.http.get("/catalogs/airports/search", params={"q": "Idlewild"})
        assert [hit["name"] for hit in found.json()] == ["Idlewild"]
        deleted = {"Prefer": f"wait={LONG}, respond-async"}
        responses.append(await service.http.delete(f"{ITEMS}/JFK", headers=deleted))
        assert (await version_in(vectors), await version_in(graph)) == (2, 2)
    assert [response.status_code for response in responses] == [201, 200, 200]
    applied = {response.headers["Preference-Applied"] for response in responses}
    assert applied == {"wait=30"}, "longer than the setting's maximum"


async def test_a_store_that_lags_is_never_taken_for_one_that_shows_the_write(
    settings: Settings, vectors: LiveProjection, client: AsyncQdrantClient
) -> None:
    """N11: "not yet", with the version that it will have and the one that is shown; then shown."""
    async with (
        Service.over(settings, vectors, client=client) as service,
        running(Relay(settings)),
    ):
        await service.create()
        async with running(projecting(settings, vectors)):
            assert (await service.put("Idlewild", wait=LONG)).status_code == 200
        await service.put("Kennedy")
        await until(partial(is_behind, settings, vectors), LONG)
        pending = one_pending(await service.put("Kennedy", wait=0))
        assert (pending["store"], pending["why"]) == ("qdrant", "lag")
        assert (pending["version"], pending["shown"]) == (2, 1)
        assert pending["detail"] == "its consumer is 1 records behind"
        assert await version_in(vectors) == 1
        async with running(projecting(settings, vectors)):
            again = await service.put("Kennedy", wait=LONG)
    assert (again.status_code, again.json()["result"]["upserted"]) == (200, 1)
    assert await version_in(vectors) == 2


async def test_a_message_that_is_not_published_yet_is_told_apart(settings: Settings) -> None:
    async with Service.over(settings, Refusing()) as service:
        await service.create()
        pending = one_pending(await service.put("Idlewild", wait=0))
    assert (pending["why"], pending["shown"]) == ("lag", 0)
    assert pending["detail"] == "the relay has not published it yet"


PARK = """
INSERT INTO outbox.parked (aggregatetype, aggregateid, topic, position, reason)
VALUES ('catalog.item', 'airports/JFK', 'catalog.item.events', 1, 'too-large')
"""


async def test_a_key_that_the_relay_has_parked_is_named_as_such(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """The row that parks it is planted; the relay then sets its messages aside."""
    await postgres.execute(PARK)
    store = Refusing()
    async with (
        Service.over(settings, store) as service,
        running(Relay(settings), projecting(settings, store)),
    ):
        assert (await service.create(wait=LONG)).status_code == 201
        pending = one_pending(await service.put("Idlewild", wait=0))
    assert pending["why"] == "parked"
    assert pending["detail"].endswith("too-large")


async def test_a_key_behind_a_dead_letter_names_it(settings: Settings) -> None:
    store = Refusing()
    async with (
        Service.over(settings, store) as service,
        running(Relay(settings), projecting(settings, store)),
    ):
        await service.create()
        assert (await service.put("good", wait=LONG)).status_code == 200
        await service.put("bad")

        async def buried() -> bool:
            return len(await list_dead_letters(settings, 1)) == 1

        await until(buried, LONG)
        pending = one_pending(await service.put("better", wait=0))
    assert (pending["why"], pending["version"], pending["shown"]) == ("dead", 3, 1)
    assert pending["detail"] == "behind dead letter 1: refused-by-store"


async def test_a_store_that_is_down_hides_nothing_of_the_others(settings: Settings) -> None:
    (port,) = free_ports(1)
    away = settings.model_copy(update={"qdrant_url": f"http://127.0.0.1:{port}"})
    client = qdrant(away)
    store = Refusing()
    async with (
        Service.over(away, live_vectors(client, EMBEDDER), store) as service,
        running(Relay(settings), projecting(settings, store)),
    ):
        await service.create()
        await service.put("Idlewild")

        async def shown() -> bool:
            return await version_in(store) == 1

        await until(shown, LONG)
        pending = one_pending(await service.put("Idlewild", wait=1))
    await client.close()
    assert (pending["store"], pending["why"], pending["shown"]) == ("qdrant", "down", None)


async def test_a_wait_is_cut_to_the_longest_and_one_too_many_is_not_begun(
    settings: Settings,
) -> None:
    own = settings.model_copy(update={"wait_longest_seconds": 0.2, "waits_side_by_side": 1})
    async with Service.over(own, Refusing()) as service:
        await service.create()
        response = await service.put("Idlewild", wait=3_600)
        assert response.headers["Preference-Applied"] == "wait=0.2"
        async with service.stores._places:
            assert one_pending(await service.put("Idlewild", wait=3_600))["why"] == "lag"


async def test_nothing_is_said_of_a_wait_that_was_not_asked_for_or_of_a_command_that_was_refused(
    settings: Settings,
) -> None:
    async with Service.over(settings, Refusing()) as service:
        created = await service.create()
        refused = await service.http.delete(f"{ITEMS}/none", headers={"Prefer": "wait=60"})
        bad = await service.http.put(
            ITEMS, json={"items": [{"item_id": "A", "name": "a", "text": "t"}]},
            headers={"Prefer": "wait=-1; x"},
        )  # fmt: skip
    assert (created.status_code, refused.status_code, bad.status_code) == (201, 404, 200)
    for response in (created, refused, bad):
        assert "Preference-Applied" not in response.headers


async def test_a_database_that_goes_away_after_the_commit_leaves_it_open(
    settings: Settings,
) -> None:
    (port,) = free_ports(1)
    away = settings.model_copy(update={"postgres_url": _at(port), "connect_timeout_seconds": 2})
    async with Database(away, "catalog") as database:
        stores = WaitedStores(away, database, {})
        (pending,) = await stores.wait([JFK], 5)
    assert (pending.why, pending.shown) == (Why.UNKNOWN, None)


def _at(port: int) -> Any:
    return Settings(postgres_url=f"postgresql://postgres@127.0.0.1:{port}/x").postgres_url  # type: ignore[arg-type] # a str


class Flaky(MemoryProjection):
    """Down at first; then it shows one version more at each look."""

    def __init__(self, outages: int) -> None:
        super().__init__(AGGREGATES, TOPICS)
        self.looks = 0
        self._outages = outages

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        self.looks += 1
        if self.looks <= self._outages:
            raise DependencyDown("memory", "planted")
        return {stream: Entry(stream, self.looks - self._outages, "", False) for stream in streams}


async def test_wait_for_goes_through_an_outage_and_looks_at_least_once() -> None:
    store = Flaky(outages=3)
    waited = await wait_for(store, {JFK: 4}, 30)
    assert (waited.left, waited.down, store.looks) == ({}, None, 7)
    late = await wait_for(Flaky(outages=1), {JFK: 1}, 0)
    assert late.left == {JFK: 1}
    assert late.down == "memory is down (planted)"


@pytest.mark.usefixtures("graph")
async def test_the_service_as_it_is_started_knows_every_store(settings: Settings) -> None:
    """Nothing follows: Qdrant has no collection, and the graph no such catalog."""
    own = settings.model_copy(update={"http_port": free_ports(1)[0]})
    async with (
        Role("http", own),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{own.http_port}") as http,
    ):
        await until(partial(is_live, http), LONG)
        new = {"catalog_id": "airports", "name": "Airports"}
        created = await http.post("/catalogs", json=new, headers=_headers("new", 0), timeout=LONG)
        assert (created.status_code, created.json()["pending"][0]["store"]) == (202, "neo4j")
        item = {"items": [{"item_id": "JFK", "name": "Kennedy", "text": "t"}]}
        put = await http.put(ITEMS, json=item, headers=_headers("item", 0), timeout=LONG)
    assert put.status_code == 202, put.text
    pending = {each["store"]: each["why"] for each in put.json()["pending"]}
    assert pending == {"neo4j": "lag", "qdrant": "down"}


async def is_live(http: httpx.AsyncClient) -> bool:
    with suppress(httpx.TransportError):
        return (await http.get("/livez")).status_code == 200
    return False
