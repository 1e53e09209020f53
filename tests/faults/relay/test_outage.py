"""The broker is away, or takes connections and says nothing: R5, R9, G21, G22.

The relay is a process of its own.
"""

import asyncio
import time

import psycopg
import pytest
from pydantic import SecretStr

from consumers.settings import Settings
from outbox.status import read_status
from tests.conftest import Servers
from tests.kit.load.length import LONG, seconds
from tests.kit.load.load import Load, commit_events
from tests.kit.load.role import Role
from tests.kit.proxies.kafka_proxy import ALWAYS, Hold, KafkaProxy
from tests.kit.proxies.postgres_proxy import PostgresProxy, address_of, url_through
from tests.kit.proxies.proxy import Proxy
from tests.kit.proxies.toxics import Timeout
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
AWAY_SECONDS = seconds(8, 300)  # of each kind
EVENTS_PER_SECOND = seconds(100, 200)
WITHIN_SECONDS = 60.0


@pytest.fixture
def behind(settings: Settings, proxy: KafkaProxy) -> Settings:
    """Return the relay's settings, with the deadlines of production."""
    update = {"kafka_url": proxy.address, "lease_seconds": 10.0, "page_messages": 1_000}
    return settings.model_copy(update=update)


class Memory:
    """Notes the most memory that a role has held since the first look."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self.first = self.most = role.rss_bytes()

    async def look_until(self, end: float) -> None:
        """Look again and again, until that moment of the monotonic clock."""

        async def over() -> bool:
            self.most = max(self.most, self._role.rss_bytes())
            return time.monotonic() > end

        await until(over, 2 * AWAY_SECONDS + WITHIN_SECONDS, 0.2)

    @property
    def growth_mib(self) -> float:
        return (self.most - self.first) / MIB


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_a_broker_that_is_away_costs_nothing_but_time(
    servers: Servers,
    settings: Settings,
    behind: Settings,
    proxy: KafkaProxy,
    postgres: psycopg.AsyncConnection,
) -> None:
    """R5, G21: writers notice nothing, the relay's memory stays, and then all comes in order.

    First the broker refuses connections; then it takes them and says nothing.
    """
    if LONG and not servers.real_kafka:
        pytest.skip("the mock broker keeps too little of so much")
    async with Witness(settings) as witness, Role("relay", behind) as relay:
        await commit_events(settings, 2_000)
        await witness.saw_all()
        memory = Memory(relay)
        async with Load(settings, EVENTS_PER_SECOND) as load:
            await proxy.down()
            await memory.look_until(time.monotonic() + AWAY_SECONDS)
            await proxy.up()
            with proxy.toxic(Timeout()):
                await memory.look_until(time.monotonic() + AWAY_SECONDS)
            assert (await read_status(postgres)).pending > 0
        verdict = await witness.saw_all(within_seconds=120)
        await memory.look_until(time.monotonic())

    assert load.written > AWAY_SECONDS * EVENTS_PER_SECOND / 2
    assert verdict.at_least_once, verdict
    assert memory.growth_mib <= 20


async def deaf_from_the_start(proxy: KafkaProxy, settings: Settings, relay: Role) -> None:
    del settings
    proxy.add(Timeout())
    await relay.start()
    await until(lambda: was_asked(proxy), WITHIN_SECONDS)


async def was_asked(proxy: Proxy) -> bool:
    return proxy.accepted > 0


async def deaf_in_a_page(proxy: KafkaProxy, settings: Settings, relay: Role) -> None:
    proxy.add_rule(hold := Hold(times=ALWAYS))
    await commit_events(settings, 100)
    await relay.start()
    await asyncio.wait_for(hold.happened.wait(), WITHIN_SECONDS)


async def deaf_at_rest(proxy: KafkaProxy, settings: Settings, relay: Role) -> None:
    await relay.start()
    async with Witness(settings.model_copy(update={"kafka_url": address(proxy)})) as witness:
        await commit_events(settings, 100)
        await witness.saw_all()
    proxy.add(Timeout())


def address(proxy: Proxy) -> str:
    """Return the address of the server behind the proxy."""
    host, port = proxy.upstream
    return f"{host}:{port}"


@pytest.mark.parametrize("deaf", [deaf_from_the_start, deaf_in_a_page, deaf_at_rest])
async def test_a_relay_ends_after_sigterm_when_the_broker_is_deaf(
    behind: Settings, proxy: KafkaProxy, deaf: object
) -> None:
    """R9, G22."""
    assert callable(deaf)
    relay = Role("relay", behind)
    await deaf(proxy, behind, relay)
    await relay.terminate()


@pytest.mark.parametrize("events", [0, 500])
async def test_a_relay_ends_after_sigterm_when_postgresql_is_deaf(
    settings: Settings, behind: Settings, proxy: KafkaProxy, events: int
) -> None:
    """R9, G22: nothing comes over its connection any more, at rest or in the middle of a cut."""
    await commit_events(settings, events)
    proxy.add_rule(hold := Hold(times=ALWAYS))
    url = settings.libpq_url()
    async with PostgresProxy(address_of(url)) as database:
        through = {"postgres_url": SecretStr(url_through(database, url)), "page_messages": 10}
        relay = Role("relay", behind.model_copy(update=through))
        await relay.start()
        await relay.ready()
        if events:
            await asyncio.wait_for(hold.happened.wait(), WITHIN_SECONDS)
        database.add(Timeout())
        await relay.terminate()
