"""PostgreSQL has no connection left: P23.

A program that has a connection keeps it and works on, the relay among them. One that has none gets
an error at once, and tries again.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import psycopg
import pytest

from consumers.settings import Settings
from outbox.errors import DependencyDown
from outbox.relay.relay import Relay
from outbox.write.database import Database
from tests.kit.load.role import Role
from tests.kit.load.roles import catalog_api, running
from tests.kit.servers.cluster import Cluster, at, running_cluster
from tests.kit.verdicts.history import Happened, committed
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until
from web.app import application

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FEW = {"max_connections": "20"}
CLIENTS = 200
AT_ONCE_SECONDS = 60.0
WITHIN_SECONDS = 60.0


@asynccontextmanager
async def exhausted(url: str) -> AsyncIterator[None]:
    """Take every free connection for the length of the block."""
    async with AsyncExitStack() as held:
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            while True:
                await held.enter_async_context(await psycopg.AsyncConnection.connect(url))
        yield


@asynccontextmanager
async def few(settings: Settings) -> AsyncIterator[tuple[Cluster, Settings]]:
    async with running_cluster(FEW) as cluster:
        yield cluster, at(settings, cluster.url)


async def say(database: Database, thing: str) -> None:
    async with database.unit_of_work("say") as uow:
        uow.publish(Happened(thing=thing))
        await uow.commit()


async def test_who_has_a_connection_works_on_and_who_has_none_is_told_at_once(
    settings: Settings,
) -> None:
    """P23: a writer and the relay use their connections; another writer gets DependencyDown."""
    async with few(settings) as (cluster, own), Witness(own) as witness, running(Relay(own)):
        async with Database(own, "early") as early, Database(own, "late") as late:
            await say(early, "thing")
            assert (await witness.saw_all()).right
            async with exhausted(cluster.url):
                async with asyncio.timeout(AT_ONCE_SECONDS):
                    with pytest.raises(DependencyDown, match="too many clients"):
                        await say(late, "thing")
                await say(early, "thing")
                await saw(witness, 2)
            await say(late, "thing")
        verdict = await witness.saw_all()
    assert verdict.right, verdict
    assert verdict.committed == 3


async def saw(witness: Witness, count: int) -> None:
    """Wait for messages without a look at the database, which has no connection for us."""

    async def there() -> bool:
        return len(witness.seen.order) >= count

    await until(there, WITHIN_SECONDS, 0.02)


async def test_http_answers_503_and_says_when_to_come_again(settings: Settings) -> None:
    """P23, H6: and it answers 201 to the repetition, once there is a connection."""
    async with few(settings) as (cluster, own), catalog_api(own) as api:
        transport = httpx.ASGITransport(application(api))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            async with exhausted(cluster.url), asyncio.timeout(AT_ONCE_SECONDS):
                refused = await create(client)
                ready, live = await client.get("/readyz"), await client.get("/livez")
            created = await create(client)
    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:aftercommit:problem:unavailable"
    assert int(refused.headers["retry-after"]) > 0
    assert (ready.status_code, ready.json()["postgres"], live.status_code) == (503, "down", 200)
    assert created.status_code == 201


async def create(client: httpx.AsyncClient) -> httpx.Response:
    named = {"Idempotency-Key": "k"}
    return await client.post("/catalogs", json={"catalog_id": "c", "name": "n"}, headers=named)


async def test_a_relay_that_finds_no_connection_waits_for_one(settings: Settings) -> None:
    """P23: it was started at the wrong moment, and needs no other start."""
    async with (
        few(settings) as (cluster, own),
        Witness(own) as witness,
        Database(own, "writer") as database,
        AsyncExitStack() as held,
    ):
        await say(database, "thing")
        await held.enter_async_context(exhausted(cluster.url))
        async with Role("relay", own) as relay:
            await until(lambda: interrupted(relay), WITHIN_SECONDS)
            await say(database, "thing")
            await held.aclose()
            await relay.ready()
            verdict = await witness.saw_all()
    assert verdict.right, verdict
    assert verdict.committed == 2


async def interrupted(relay: Role) -> bool:
    return bool(relay.events("relay interrupted"))


async def test_of_two_hundred_clients_each_is_served_or_told(settings: Settings) -> None:
    """P23, I11: a client that was told it is done finds it there; no other has left anything."""
    async with few(settings) as (cluster, own), Witness(own) as witness, running(Relay(own)):
        await saw_one(own, witness)
        outcomes = await asyncio.gather(*(client(own, number) for number in range(CLIENTS)))
        verdict = await witness.saw_all()
        told = Counter(outcomes)
        assert await committed(cluster.url) == {("first", 1)} | {
            (f"client-{number}", 1) for number, served in enumerate(outcomes) if served
        }
    assert verdict.right, verdict
    assert told[True] > 0, "nobody was served"
    assert told[False] > 0, "there were connections for all"


async def saw_one(settings: Settings, witness: Witness) -> None:
    """Return once one message was seen; the relay has its connection."""
    async with Database(settings, "first") as database:
        await say(database, "first")
    await saw(witness, 1)


async def client(settings: Settings, number: int) -> bool:
    """Commit one unit as a client of its own, and return whether it was served."""
    async with Database(settings, "client") as database, asyncio.timeout(WITHIN_SECONDS):
        try:
            await say(database, f"client-{number}")
        except DependencyDown:
            return False
        return True
