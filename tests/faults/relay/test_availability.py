"""Two relays: R2, R3, R15, G4, G17, G18; kill -9, SIGSTOP, lost sessions, and M10.

One relay publishes at a time. Whatever happens to it, the other one goes on, and the history stays
I2-I5. Each record's term says which relay sent it. The bench measures how soon the other one goes
on (`takeover_seconds`). FD8: no test here depends on that time, nor on which relay leads by then.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from consumers.settings import Settings
from outbox.relay.relay import Relay
from outbox.runtime.failpoints import arm
from outbox.status import read_status
from tests.kit.load.length import seconds
from tests.kit.load.load import Load
from tests.kit.load.role import Role
from tests.kit.load.roles import running
from tests.kit.planted.planted_patches import no_lease_check
from tests.kit.proxies.kafka_proxy import Hold, KafkaProxy
from tests.kit.verdicts.deliveries import recorded_once
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

LEASE_SECONDS = 4.0  # a busy machine may keep a process from running for a second
WITHIN_SECONDS = 60.0
EVENTS_PER_SECOND = 100
PAGE = 50
KILLS = int(seconds(3, 60))
ENDS = int(seconds(5, 100))


@pytest.fixture
def quick(settings: Settings) -> Settings:
    update = {"lease_seconds": LEASE_SECONDS, "page_messages": PAGE}
    return settings.model_copy(update=update)


async def term(postgres: psycopg.AsyncConnection) -> int:
    return (await read_status(postgres)).relay_term


async def kill_whoever_leads(pair: tuple[Role, Role], postgres: psycopg.AsyncConnection) -> Role:
    """Kill the leading relay, and return which one it was: a busy machine may have changed it."""
    owner = (await read_status(postgres)).relay_owner or ":0:"
    leads = next((role for role in pair if str(role.pid) == owner.split(":")[1]), pair[0])
    await leads.kill()
    return leads


async def until_connected(postgres: psycopg.AsyncConnection, relays: int) -> None:
    """Return once so many relays are connected, leading or standing by."""
    count = """SELECT count(*) FROM pg_stat_activity
               WHERE application_name = 'aftercommit relay' AND datname = current_database()"""

    async def there() -> bool:
        row = await (await postgres.execute(count.encode())).fetchone()
        return row is not None and row[0] >= relays

    await until(there, WITHIN_SECONDS, 0.02)


@asynccontextmanager
async def pair(
    leader: Settings, standby: Settings, postgres: psycopg.AsyncConnection
) -> AsyncIterator[tuple[Role, Role]]:
    """Two relay processes, the first of which leads."""
    async with Role("relay", leader) as first:
        await first.ready()
        async with Role("relay", standby) as second:
            await until_connected(postgres, 2)
            yield first, second


@pytest.mark.timeout(600)
async def test_after_kill_9_of_the_leader_another_publishes_and_nothing_is_lost(
    quick: Settings, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """R1, G17: again and again, under load; the one that was killed stands by next."""
    async with pair(quick, quick, postgres) as relays:
        async with Load(quick, EVENTS_PER_SECOND):
            for _ in range(KILLS):
                before = await term(postgres)
                await witness.saw_term(before, WITHIN_SECONDS)
                killed = await kill_whoever_leads(relays, postgres)
                await witness.saw_term(before + 1, WITHIN_SECONDS)
                await killed.start()
                await until_connected(postgres, 2)
        verdict = await witness.saw_all()
    assert verdict.right, verdict
    assert witness.seen.stale() == 0
    assert witness.seen.copies <= witness.seen.last_term() * 2 * PAGE


# Where the leader stops, and how many records it may send after its term.
STOPS = {
    "before the check of its lease": ("relay-3=stop@20", 0),
    "after it": ("relay-4=stop@20", PAGE),
    "before it records what was acknowledged": ("relay-5=stop@20", 0),
}


@pytest.mark.parametrize(("failpoints", "late"), STOPS.values(), ids=STOPS)
async def test_a_leader_that_stood_still_past_its_lease_sends_faithful_duplicates_at_most(
    quick: Settings,
    witness: Witness,
    postgres: psycopg.AsyncConnection,
    failpoints: str,
    late: int,
) -> None:
    """R2, G18, I4: it gets SIGSTOP in the middle of a page, and SIGCONT when another one leads."""
    stops = quick.model_copy(update={"failpoints": failpoints})
    async with pair(stops, quick, postgres) as (leader, _):
        async with Load(quick, EVENTS_PER_SECOND):
            await until(leader.paused, WITHIN_SECONDS, 0.02)
            await witness.saw_term(2, WITHIN_SECONDS)
            leader.resume()
            await until(lambda: interrupted(leader), WITHIN_SECONDS)
        verdict = await witness.saw_all()
        await recorded_once(postgres, verdict.committed)
    assert verdict.at_least_once, verdict
    assert witness.seen.stale() <= late
    assert witness.seen.stale(only_new=True) == 0


async def interrupted(relay: Role) -> bool:
    """Return whether it has noticed that its term is over, or that its page took too long."""
    return bool(relay.events("relay interrupted"))


async def test_a_page_that_the_network_held_past_the_lease_is_a_duplicate_only(
    quick: Settings, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """R2, R10: the leader stands still with its bytes on the way; they arrive long afterwards."""
    async with KafkaProxy(quick.kafka_url) as proxy:
        behind = quick.model_copy(update={"kafka_url": proxy.address})
        async with pair(behind, quick, postgres) as (leader, _):
            proxy.add_rule(hold := Hold())
            async with Load(quick, EVENTS_PER_SECOND):
                await asyncio.wait_for(hold.happened.wait(), WITHIN_SECONDS)
                leader.pause()
                await witness.saw_term(2, WITHIN_SECONDS)
                hold.release()
                await witness.saw_copies()
                leader.resume()
            verdict = await witness.saw_all()
            await recorded_once(postgres, verdict.committed)
    assert verdict.at_least_once, verdict
    assert 0 < witness.seen.stale() <= PAGE
    assert witness.seen.stale(only_new=True) == 0


# A leader looks for messages; who stands by only asks for the lease.
END_LEADERS_SESSION = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'aftercommit relay' AND datname = current_database()
      AND query ~ 'pg_current_snapshot|outbox.messages|first_offset'
"""


async def test_a_leader_that_loses_its_session_stops_before_the_next_batch(
    quick: Settings, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """R3: again and again; each time one of the two goes on, under a new term."""

    async def ended() -> bool:
        return bool(await (await postgres.execute(END_LEADERS_SESSION.encode())).fetchall())

    async with pair(quick, quick, postgres):
        async with Load(quick, EVENTS_PER_SECOND):
            for _ in range(ENDS):
                before = await term(postgres)
                await witness.saw_term(before, WITHIN_SECONDS)
                await until(ended, WITHIN_SECONDS, 0)
                await witness.saw_term(before + 1, WITHIN_SECONDS)
        verdict = await witness.saw_all()
    assert verdict.at_least_once, verdict
    assert witness.seen.stale() == 0
    assert witness.seen.copies <= witness.seen.last_term() * PAGE


PUBLISH = """
    SELECT outbox.publish('faults.thing', 'thing-' || n, 'faults.happened.v1',
                          jsonb_build_object('thing', 'thing-' || n))
    FROM generate_series(1, 20) AS n
"""
NEW_SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'aftercommit relay' AND datname = current_database()
      AND backend_start > %s
"""


async def block_past_the_lease(
    quick: Settings, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """Block a relay of this process, and so the whole process, with a packed page.

    Meanwhile another process leads and publishes that page; then our relay asks for the lease.
    """

    async def again() -> bool:
        row = await (await postgres.execute(NEW_SESSIONS.encode(), [awake])).fetchone()
        return row is not None and row[0] > 0

    async with running(Relay(quick)):
        await postgres.execute(PUBLISH.encode())
        await witness.saw_term(1, WITHIN_SECONDS)
        async with Role("relay", quick):
            await until_connected(postgres, 2)
            arm(f"relay-3=sleep:{LEASE_SECONDS + 2}")
            await postgres.execute(PUBLISH.encode())
            await witness.saw_term(2, WITHIN_SECONDS)
            row = await (await postgres.execute("SELECT clock_timestamp()")).fetchone()
            awake = row and row[0]
            await until(again, WITHIN_SECONDS, 0.01)
            await postgres.execute(PUBLISH.encode())
            verdict = await witness.saw_all()
    assert verdict.at_least_once, verdict


@pytest.fixture
def disarmed() -> Iterator[None]:
    yield
    arm("")


@pytest.mark.usefixtures("disarmed")
async def test_a_relay_that_was_blocked_past_its_lease_publishes_nothing_after_it(
    quick: Settings, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """R15."""
    await block_past_the_lease(quick, witness, postgres)
    assert witness.seen.stale() == 0


@pytest.mark.usefixtures("disarmed")
async def test_a_relay_without_a_lease_check_is_caught_publishing_after_its_term(
    quick: Settings, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """M10."""
    with no_lease_check():
        await block_past_the_lease(quick, witness, postgres)
    assert witness.seen.stale() > 0
