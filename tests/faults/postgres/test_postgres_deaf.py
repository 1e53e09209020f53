"""FC9: PostgreSQL takes what we send and says nothing more, as if the cable were cut.

Nobody waits for ever: a unit ends as an outage of unknown outcome, readiness says so, and a relay
leaves the server and connects again.
"""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import suppress
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from consumers.settings import Settings
from outbox.errors import AlreadyHandled, DependencyDown
from outbox.relay import relay as relays
from outbox.relay.relay import Relay
from outbox.write.database import Database
from schemas.envelope import Envelope
from tests.kit.captured import captured
from tests.kit.load.roles import catalog_api, running
from tests.kit.proxies.postgres_proxy import PostgresProxy, address_of, url_through
from tests.kit.proxies.toxics import Timeout
from tests.kit.verdicts.history import Happened
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until
from web.app import application

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 60
CAUSE = Envelope("command-1", "/test", "faults.do.v1", "a", b"{}")
LIMITS = {"unit_timeout_seconds": 2.0, "ready_timeout_seconds": 1.0, "pool_connections": 1}


@pytest.fixture
async def proxy(settings: Settings) -> AsyncIterator[PostgresProxy]:
    async with PostgresProxy(address_of(settings.libpq_url())) as proxy:
        yield proxy


@pytest.fixture
def through(settings: Settings, proxy: PostgresProxy) -> Settings:
    url = SecretStr(url_through(proxy, settings.libpq_url()))
    return settings.model_copy(update={"postgres_url": url, **LIMITS})


async def handle(database: Database) -> None:
    async with database.unit_of_work("say", cause=CAUSE) as uow:
        uow.publish(Happened(thing="a"))
        await uow.commit()


async def test_a_unit_ends_though_nothing_answers_and_a_repetition_settles_it(
    through: Settings, proxy: PostgresProxy, postgres: psycopg.AsyncConnection
) -> None:
    async with Database(through, "units") as database, asyncio.timeout(WITHIN_SECONDS):
        async with database.read():
            pass  # its one connection is there
        with proxy.toxic(Timeout()), pytest.raises(DependencyDown, match="no answer within 2 s"):
            await handle(database)
        with suppress(AlreadyHandled):
            await handle(database)
    events = await postgres.execute("SELECT count(*) FROM outbox.messages")
    assert await events.fetchone() == (1,)


async def test_readiness_says_so_in_time(through: Settings, proxy: PostgresProxy) -> None:
    async with catalog_api(through) as api, asyncio.timeout(WITHIN_SECONDS):
        transport = httpx.ASGITransport(application(api))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test", timeout=WITHIN_SECONDS
        ) as client:
            before = await client.get("/readyz")
            with proxy.toxic(Timeout()):
                deaf = await client.get("/readyz")
            after = await client.get("/readyz")
    told = [answer.json()["postgres"] for answer in (before, deaf, after)]
    assert told == ["ready", "down", "ready"]


async def test_a_relay_leaves_a_server_that_falls_silent_and_publishes_when_it_speaks_again(
    settings: Settings, through: Settings, proxy: PostgresProxy
) -> None:
    def interrupted(entries: list[MutableMapping[str, Any]]) -> bool:
        return any("no answer within" in entry.get("error", "") for entry in entries)

    async with (
        Witness(settings) as witness,
        Database(settings, "units") as database,
    ):
        with captured(relays) as entries:

            async def left() -> bool:
                return interrupted(entries)

            async with running(Relay(through)):
                await handle(database)
                assert (await witness.saw_all()).right
                with proxy.toxic(Timeout()):
                    await until(left, WITHIN_SECONDS, 0.02)
                async with database.unit_of_work("say") as uow:
                    uow.publish(Happened(thing="a"))
                    await uow.commit()
                assert (await witness.saw_all(WITHIN_SECONDS)).at_least_once
