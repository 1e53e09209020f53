"""Clocks that step by an hour, P25: the database's, and that of the relay's machine.

Order and cursors depend on snapshots and locks, which no clock moves. A lease ends by the
database's clock. If that clock steps, either way and by more than the lease, another relay may take
the lease at once, under a new term, and the old leader notices at its next statement.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
import pytest

from consumers.settings import Settings
from outbox.status import read_status
from outbox.write.database import Database
from tests.kit.load.role import Role
from tests.kit.load.writer import Writer, disagreeing, ended, make_things
from tests.kit.servers.clock import Clock, needs_libfaketime
from tests.kit.servers.cluster import at, cluster_folder, running_cluster
from tests.kit.verdicts.deliveries import recorded_once
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow, needs_libfaketime]

HOUR = 3_600
LEASE_SECONDS = 2.0
WITHIN_SECONDS = 60.0


@dataclass
class Stepping:
    """A database and two relays whose clocks can be stepped, one apart from the other."""

    settings: Settings
    database: Clock
    relays: Clock
    leader: Role
    standby: Role
    postgres: psycopg.AsyncConnection


@asynccontextmanager
async def stepping(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stepping]:
    """Run two relays, on clocks that can step; one leads, and the other one stands by."""
    with cluster_folder() as folder, cluster_folder() as other:
        database, relays = Clock(folder), Clock(other)
        async with running_cluster(environment=database.environment) as cluster:
            own = at(settings, cluster.url).model_copy(update={"lease_seconds": LEASE_SECONDS})
            await make_things(cluster.url)
            with monkeypatch.context() as patched:
                for name, value in relays.environment.items():
                    patched.setenv(name, value)
                leader, standby = Role("relay", own), Role("relay", own)
            connecting = psycopg.AsyncConnection.connect(cluster.url, autocommit=True)
            async with leader, await connecting as postgres:
                await leader.ready()
                async with standby:
                    yield Stepping(own, database, relays, leader, standby, postgres)


@asynccontextmanager
async def writing(settings: Settings) -> AsyncIterator[None]:
    async with Database(settings, "clocks") as database:
        load = asyncio.create_task(Writer(database, pause_seconds=0.005).run())
        yield
        await ended(load)


@pytest.mark.parametrize(
    ("whose", "seconds"),
    [
        pytest.param("database", HOUR, id="database-forward", marks=pytest.mark.faults_only),
        pytest.param("database", -HOUR, id="database-back"),
        pytest.param("relays", HOUR, id="relays-forward"),
        pytest.param("relays", -HOUR, id="relays-back", marks=pytest.mark.faults_only),
    ],
)
async def test_a_clock_that_steps_by_an_hour_costs_duplicates_at_most(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, whose: str, seconds: int
) -> None:
    """P25, I1-I5: under load; and if the leader is killed after the step, the other one goes on."""
    async with stepping(settings, monkeypatch) as parts, Witness(parts.settings) as witness:
        async with writing(parts.settings):
            await witness.saw_term(1, WITHIN_SECONDS)
            clock = parts.database if whose == "database" else parts.relays
            clock.step(seconds)
            await published_on(witness)
            await kill_whoever_leads(parts, witness)
        verdict = await witness.saw_all()
        assert verdict.at_least_once, verdict
        await recorded_once(parts.postgres, verdict.committed)
        assert await disagreeing(parts.settings.libpq_url()) == []
    require_step(witness, whose, seconds)
    assert witness.seen.stale(only_new=True) == 0
    one_owner_a_term(parts)


async def published_on(witness: Witness) -> None:
    """Return once much more was seen than was on its way."""
    enough = len(witness.seen.order) + 100

    async def seen() -> bool:
        return len(witness.seen.order) >= enough

    await until(seen, WITHIN_SECONDS, 0.02)


async def kill_whoever_leads(parts: Stepping, witness: Witness) -> None:
    """Kill the leader, whose lease was renewed after the step, so that it ends in time."""
    status = await read_status(parts.postgres)
    assert status.relay_owner is not None
    leads = status.relay_owner.split(":")[1] == str(parts.leader.pid)
    await (parts.leader if leads else parts.standby).kill()
    await witness.saw_term(status.relay_term + 1, WITHIN_SECONDS)


def one_owner_a_term(parts: Stepping) -> None:
    lines = [line for role in (parts.leader, parts.standby) for line in role.events("relay leads")]
    terms = [line["term"] for line in lines]
    assert len(terms) == len(set(terms)) > 1


def require_step(witness: Witness, whose: str, seconds: int) -> None:
    """Assert that a clock has jumped: an event has the database's time, a record the relay's."""
    which = 0 if whose == "database" else 1
    first, last = witness.times[0][which], witness.times[-1][which]
    assert first is not None
    assert last is not None
    assert abs((last - first).total_seconds() - seconds) < HOUR / 2


async def test_a_lease_of_a_dead_leader_ends_though_the_clock_stepped_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P25: by the database's clock it lasts an hour and a second; nobody waits for so long."""
    async with stepping(settings, monkeypatch) as parts, Witness(parts.settings) as witness:
        async with writing(parts.settings):
            await witness.saw_term(1, WITHIN_SECONDS)
            await parts.leader.kill()
            parts.database.step(-HOUR)
            await witness.saw_term(2, WITHIN_SECONDS)
        verdict = await witness.saw_all()
    assert verdict.at_least_once, verdict
    one_owner_a_term(parts)
