"""The service is asked to end: H7, G22. What it has accepted is answered, and it ends in time."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from consumers.settings import Settings
from stack.servers.port import LOOPBACK, free_ports
from tests.kit.load.length import times
from tests.kit.load.role import Role
from tests.kit.proxies.balancer import Balancer
from tests.kit.proxies.postgres_proxy import PostgresProxy, address_of, url_through
from tests.kit.proxies.toxics import Flow, Timeout
from tests.kit.waiting import until
from tests.kit.web.caller import ask
from tests.kit.web.served import RawClient, created, creation, lives

pytestmark = pytest.mark.anyio

RESTARTS = times(3, 100, faults=5)
CALLERS = 8
DRAIN_SECONDS = 3.0  # longer than a busy machine takes for a request and a readiness check
WITHIN_SECONDS = 60.0


@dataclass(eq=False)
class Deaf(Timeout):
    """Lets nothing through; `asked` is set once something was sent."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def through(self, chunk: bytes, flow: Flow) -> AsyncGenerator[bytes, None]:
        self.asked.set()
        async for piece in super().through(chunk, flow):
            yield piece


class Callers:
    """Several callers at once; each sends one request after another on a connection of its own.

    None of them repeats a request: one that is not answered with success is a failure.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopping = False
        self.answered = 0

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Call during the block; its end raises what went wrong."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(self._call())
            yield
            self._stopping = True

    async def begin(self) -> None:
        """Create the catalog that the callers change."""
        async with httpx.AsyncClient(base_url=self._url, timeout=WITHIN_SECONDS) as client:
            assert (await ask(client, 0)).is_success

    async def _call(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=WITHIN_SECONDS) as client:
            while not self._stopping:
                number = self.answered = self.answered + 1
                response = await ask(client, number)
                assert response.is_success, (number, response.text)

    async def has_more(self) -> None:
        """Return once each may have been answered anew."""
        goal = self.answered + 2 * CALLERS

        async def reached() -> bool:
            return self.answered >= goal

        await until(reached, WITHIN_SECONDS, 0.02)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_a_rolling_restart_fails_no_request(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """H7, G22: two services behind a balancer; one ends and comes back, then the other."""
    ports = list(free_ports(2))
    slow = settings.model_copy(update={"drain_seconds": DRAIN_SECONDS})
    roles = [Role("http", slow.model_copy(update={"http_port": port})) for port in ports]
    async with Balancer(ports) as balancer, roles[0], roles[1]:
        for port in ports:
            await balancer.ready(port, WITHIN_SECONDS)
        callers = Callers(f"http://{balancer.address}")
        await callers.begin()
        async with callers.calling():
            for turn in range(RESTARTS):
                await callers.has_more()
                await roles[turn % 2].terminate()
                await roles[turn % 2].start()
                await balancer.ready(ports[turn % 2], WITHIN_SECONDS)
    assert await receipts(postgres) == callers.answered + 1


async def receipts(connection: psycopg.AsyncConnection) -> int:
    row = await (await connection.execute("SELECT count(*) FROM outbox.receipts")).fetchone()
    assert row is not None
    return int(row[0])


async def test_what_was_accepted_before_sigterm_is_answered(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """H7: requests that wait for a row at that moment; new connections are refused afterwards."""
    own = with_port(settings)
    role = Role("http", own)
    await role.start()
    await lives(own.http_port)
    async with postgres.transaction():
        await postgres.execute("LOCK TABLE catalog.catalogs IN SHARE ROW EXCLUSIVE MODE")
        clients = [await asking(own.http_port, f"c{number}") for number in range(CALLERS)]
        await until(lambda: waiting(postgres, CALLERS), WITHIN_SECONDS)
        ending = asyncio.create_task(role.terminate())
        await asyncio.sleep(0)
        await until(lambda: drains(own.http_port), WITHIN_SECONDS, 0.02)
    async with asyncio.timeout(WITHIN_SECONDS):
        answers = [await client.answer() for client in clients]
        assert [await client.hear() for client in clients] == [b""] * CALLERS
    await ending
    assert [status for status, _ in answers] == [201] * CALLERS
    assert await created(postgres) == {f"c{number}": (1, 1) for number in range(CALLERS)}
    for client in clients:
        await client.close()


WAITING = """
    SELECT count(*) FROM pg_locks
    WHERE NOT granted AND relation = 'catalog.catalogs'::regclass
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def waiting(connection: psycopg.AsyncConnection, sessions: int) -> bool:
    """Whether so many sessions wait for the lock."""
    return await (await connection.execute(WAITING)).fetchone() == (sessions,)


async def drains(port: int) -> bool:
    """Whether the service says that it drains, or is gone already."""
    async with httpx.AsyncClient(timeout=WITHIN_SECONDS) as client:
        try:
            response = await client.get(f"http://{LOOPBACK}:{port}/readyz")
        except httpx.TransportError:
            return True
    return bool(response.json().get("process") == "draining")


@pytest.mark.parametrize("asked", [False, True])
async def test_a_service_ends_within_fifteen_seconds_when_postgresql_is_deaf(
    settings: Settings, asked: bool
) -> None:
    """H7, G22: at rest, and with a request that will never be answered."""
    url = settings.libpq_url()
    async with PostgresProxy(address_of(url)) as database:
        through = {"postgres_url": SecretStr(url_through(database, url))}
        own = with_port(settings).model_copy(update=through)
        role = Role("http", own)
        await role.start()
        await lives(own.http_port)
        client = await asking(own.http_port, "before")
        assert (await client.answer())[0] == 201
        database.add(deaf := Deaf())
        if asked:
            await client.say(creation("after"))
            await asyncio.wait_for(deaf.asked.wait(), WITHIN_SECONDS)
        await role.terminate()
        await client.close()


def with_port(settings: Settings) -> Settings:
    (port,) = free_ports(1)
    return settings.model_copy(update={"http_port": port})


async def asking(port: int, name: str) -> RawClient:
    """A client that has sent its request, and has not read the answer yet."""
    client = await RawClient.to(port)
    await client.say(creation(name))
    return client
