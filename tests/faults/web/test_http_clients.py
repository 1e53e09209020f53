"""Clients that leave, and answers that get lost: H1, H2; a PostgreSQL that is gone: H6.

A request is committed whole or not at all, the connections of the pool are as before, and a
repetition with the same key settles a request whose answer was lost.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from consumers.settings import Settings
from tests.kit.proxies.postgres_proxy import PostgresProxy, address_of, url_through
from tests.kit.proxies.proxy import DOWN, UP, Proxy
from tests.kit.proxies.toxics import Flow, Timeout, Toxic
from tests.kit.servers.cluster import at, running_cluster
from tests.kit.waiting import until
from tests.kit.web.served import CREATE, RawClient, Served, created, creation, served

pytestmark = pytest.mark.anyio

POOL = 3
CUTS = 12  # places inside the bytes of a request
STAGES = 8  # requests of the service to PostgreSQL, while one of which the client leaves
WITHIN_SECONDS = 60.0


@dataclass(eq=False)
class Stage(Toxic):
    """Holds the `nth` chunk that is sent, and all that follow it, until the toxic is removed."""

    nth: int
    said: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def through(self, chunk: bytes, flow: Flow) -> AsyncGenerator[bytes, None]:
        self.said += 1
        if self.said == self.nth:
            self.reached.set()
            await flow.hold(self)
        yield chunk


Leave = Callable[[RawClient], Awaitable[None]]


async def close(client: RawClient) -> None:
    await client.close()


async def reset(client: RawClient) -> None:
    client.reset()


@pytest.mark.parametrize("leave", [close, reset])
async def test_a_client_that_leaves_inside_its_request_has_asked_for_nothing(
    settings: Settings, postgres: psycopg.AsyncConnection, leave: Leave
) -> None:
    """H1: also where what came of the body is JSON by itself, with white space to come."""
    spaced = CREATE + b" " * 40
    async with served(settings, pool_connections=POOL) as service:
        data = creation("cut", spaced)
        for place in range(CUTS):
            client = await RawClient.to(service.port)
            await client.say(data[: len(data) - 1 - place * len(data) // CUTS])
            await leave(client)
        await answered(service, "whole")
        await service.clean(POOL)
    assert await created(postgres) == {"whole": (1, 1)}


@pytest.mark.parametrize("leave", [close, reset])
async def test_a_client_that_leaves_before_its_answer_is_served_whole(
    settings: Settings, postgres: psycopg.AsyncConnection, leave: Leave
) -> None:
    """H1: at each stage of the transaction."""
    url = settings.libpq_url()
    async with PostgresProxy(address_of(url)) as proxy:
        through = SecretStr(url_through(proxy, url))
        async with served(settings, pool_connections=POOL, postgres_url=through) as service:
            await answered(service, "first")
            stages = 0
            for nth in range(1, STAGES + 1):
                with proxy.toxic(stage := Stage(nth), UP):
                    client = await RawClient.to(service.port)
                    await client.say(creation(f"left-{nth}"))
                    stages += await reached(stage, client)
                    await leave(client)
                await until(lambda: idle(service), WITHIN_SECONDS, 0.02)
            await service.clean(POOL)
    assert stages >= 3, "there were no stages to leave at"
    names = ["first", *(f"left-{nth}" for nth in range(1, STAGES + 1))]
    assert await created(postgres) == dict.fromkeys(names, (1, 1))


async def reached(stage: Stage, client: RawClient) -> bool:
    """Whether the request has reached this stage, and not been answered before it."""
    there = asyncio.create_task(stage.reached.wait())
    answer = asyncio.create_task(client.answer())
    async with asyncio.timeout(WITHIN_SECONDS):
        await asyncio.wait({there, answer}, return_when=asyncio.FIRST_COMPLETED)
    for task in (there, answer):
        task.cancel()
    await asyncio.wait({there, answer})
    return stage.reached.is_set()


async def idle(service: Served) -> bool:
    return bool(service.pool.checkedout() == 0)


async def test_a_repetition_of_what_got_no_answer_gets_the_answer(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """H2: it has the same status and body as an answer that arrived; another body gets 422."""
    async with served(settings) as service, Proxy(f"127.0.0.1:{service.port}") as proxy:
        proxy.add(lost := Timeout(), DOWN)
        client = await RawClient.to(proxy.port)
        await client.say(creation("once"))
        await until(lambda: is_there(postgres, "once"), WITHIN_SECONDS)
        client.reset()
        proxy.remove(lost)
        first = await answered(service, "once")
        second = await answered(service, "once")
        other = creation("once", b'{"catalog_id": "%s", "name": "other"}')
        status, body = await asked(service, other)
    assert first == second
    assert first[0] == 201
    assert json.loads(first[1])["result"] == {"created": True}
    assert (status, json.loads(body)["type"]) == (422, "urn:aftercommit:problem:id-reused")
    assert await created(postgres) == {"once": (1, 2)}, "the refusal has a receipt, too"


async def is_there(postgres: psycopg.AsyncConnection, name: str) -> bool:
    return name in await created(postgres)


async def answered(service: Served, name: str) -> tuple[int, bytes]:
    return await asked(service, creation(name))


async def asked(service: Served, data: bytes) -> tuple[int, bytes]:
    client = await RawClient.to(service.port)
    await client.say(data)
    async with asyncio.timeout(WITHIN_SECONDS):
        answer = await client.answer()
    await client.close()
    return answer


@pytest.mark.slow
async def test_without_postgresql_it_is_told_at_once_and_with_it_again_it_serves(
    settings: Settings,
) -> None:
    """H6: 503, alive and not ready; then the very first request is served."""
    async with (
        running_cluster() as cluster,
        served(at(settings, cluster.url), pool_connections=POOL) as service,
        httpx.AsyncClient(base_url=service.url, timeout=WITHIN_SECONDS) as client,
    ):
        await asyncio.gather(*(answered(service, f"before-{number}") for number in range(10)))
        await cluster.stop()
        for number in range(2 * POOL):
            assert (await answered(service, f"away-{number}"))[0] == 503
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["postgres"]) == (503, "down")
        assert (await client.get("/livez")).status_code == 200
        await cluster.start()
        statuses = [(await answered(service, f"again-{number}"))[0] for number in range(2 * POOL)]
        assert (await client.get("/readyz")).json()["postgres"] == "ready"
    assert statuses == [201] * 2 * POOL


@pytest.mark.slow
async def test_a_postgresql_that_was_restarted_meanwhile_costs_no_request(
    settings: Settings,
) -> None:
    """H6: connections that it has closed while nobody used them are not given to a request."""
    async with (
        running_cluster() as cluster,
        served(at(settings, cluster.url), pool_connections=POOL) as service,
    ):
        await asyncio.gather(*(answered(service, f"before-{number}") for number in range(10)))
        await cluster.stop()
        await cluster.start()
        statuses = [(await answered(service, f"after-{number}"))[0] for number in range(2 * POOL)]
    assert statuses == [201] * 2 * POOL
