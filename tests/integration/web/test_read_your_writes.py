"""Waits: a write answers when the stores show it, or says what is pending and why.

Qdrant is the local mode of its client, a stand-in; the graph, PostgreSQL, the relay, the runners
and the application are the real ones.
"""

from collections.abc import AsyncIterator
from functools import partial

import psycopg
import pytest
from qdrant_client import AsyncQdrantClient

from consumers.assembly import live_vectors
from consumers.projections.generations import LiveProjection
from consumers.projections.projection import StreamKey
from consumers.settings import Settings
from outbox.relay.relay import Relay
from schemas.catalog import CatalogCreated
from services.assembly import qdrant
from stack.servers.port import free_ports
from tests.kit.load.roles import projecting, running
from tests.kit.operations.open_letters import list_dead_letters
from tests.kit.waiting import until
from tests.kit.web.airports import EMBEDDER, ITEMS
from tests.kit.web.waiting_service import (
    LONG,
    Refusing,
    Service,
    is_behind,
    one_pending,
    version_in,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]


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

        async def is_dead_lettered() -> bool:
            return len(await list_dead_letters(settings, 1)) == 1

        await until(is_dead_lettered, LONG)
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
