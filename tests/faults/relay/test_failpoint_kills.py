"""`kill -9` at each failpoint of the write and the relay; R1, G1, G23, I1-I5, I10.

Each failpoint belongs to a process that reaches it: a writer, the HTTP service, or the relay. The
process that dies has only that failpoint armed, and dies at a moment that the seed has drawn; a
failpoint that no process reaches fails its test. `make faults` kills six times at each failpoint,
LONG=1 thirty times; SEED=n repeats what a report names.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from consumers.settings import Settings
from outbox.relay.relay import Relay
from outbox.runtime.failpoints import Failpoint
from outbox.write.database import Database
from schemas.catalog import ItemUpserted
from stack.servers.port import free_ports
from tests.kit.load.kills import KILLS, WITHIN_SECONDS, Killer, reported
from tests.kit.load.role import Role
from tests.kit.load.roles import running
from tests.kit.load.writer import Writer, disagreeing, ended, make_things
from tests.kit.verdicts.deliveries import recorded_once
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until
from tests.kit.web.caller import Caller

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(1_200)]

PAGE = 50
LEASE_SECONDS = 1.0
Connection = psycopg.AsyncConnection[Any]

# Points that no steady load gets to: the service's own, below, and a day's end (test_retention.py).
ELSEWHERE = {Failpoint.REPLY_READY, Failpoint.PARTITION_DROPPED}


def points(part: str) -> list[Failpoint]:
    """Return the failpoints of one part of the system."""
    return [p for p in Failpoint if p.startswith(f"{part}-") and p not in ELSEWHERE]


def test_every_failpoint_has_its_kills() -> None:
    """A new failpoint belongs to a part above, or its kills are written first."""
    parts = ("write", "relay", "replay", "cons", "rebuild")  # test_consumer_kills.py, test_group.py
    assert {point for part in parts for point in points(part)} | ELSEWHERE == set(Failpoint)


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Set the shortest lease there is: the next relay waits for the dead one's lease."""
    return settings.model_copy(update={"lease_seconds": LEASE_SECONDS, "page_messages": PAGE})


# The relay.

# Where nothing is in flight, a death repeats nothing; where all is acknowledged and nothing is
# recorded, each death repeats something.
REPEATS_NOTHING = {
    Failpoint.LEASE_TAKEN,
    Failpoint.BATCHES_PACKED,
    Failpoint.PROGRESS_KEPT,
    Failpoint.LEASE_RENEWED,
    Failpoint.DRAINING,
}
# A lease is renewed by itself only where nothing was published for a quarter of it.
PAUSE_SECONDS = {Failpoint.LEASE_RENEWED: 0.6 * LEASE_SECONDS}


@pytest.mark.parametrize("point", points("relay"))
async def test_a_relay_that_is_killed_there_loses_and_reorders_nothing(
    point: Failpoint, quick: Settings, witness: Witness, postgres: Connection
) -> None:
    """R1, G23, I1-I5: and it repeats a page at most, unaltered."""
    killer = Killer(point, quick)
    with reported(killer) as counted:
        async with writing(quick, pause_seconds=PAUSE_SECONDS.get(point, 0.005)):
            stepped_down = await kill_relays(killer, witness)
            relay = Role("relay", quick)
            await relay.start()
        async with relay:
            verdict = await witness.saw_all()
            counted["duplicates"] = witness.seen.copies
            assert verdict.at_least_once, verdict
            await recorded_once(postgres, verdict.committed)
    assert await disagreeing(quick.libpq_url()) == []
    copies = witness.seen.copies_by_term()
    assert max(copies.values(), default=0) <= PAGE
    if point in REPEATS_NOTHING:
        assert witness.seen.copies <= stepped_down * PAGE
    if point is Failpoint.BATCHES_ACKNOWLEDGED:
        assert len(copies) >= KILLS


async def kill_relays(killer: Killer, witness: Witness) -> int:
    """Return how often a relay stepped down by itself before, because this machine was too slow."""
    stepped_down = 0
    while killer.kills < KILLS:
        async with killer.victim("relay") as victim:
            if killer.point is Failpoint.DRAINING:
                await ask_to_end(victim, witness, killer.rng.randint(1, 12))
            await killer.die(victim)
        stepped_down += len(victim.events("relay interrupted"))
    return stepped_down


async def ask_to_end(victim: Role, witness: Witness, after_messages: int) -> None:
    """Send SIGTERM in the middle of its work."""
    await victim.ready()
    enough = len(witness.seen.order) + after_messages

    async def seen() -> bool:
        return len(witness.seen.order) >= enough

    await until(seen, WITHIN_SECONDS, 0.005)
    os.kill(victim.pid, signal.SIGTERM)


@asynccontextmanager
async def writing(settings: Settings, pause_seconds: float) -> AsyncIterator[None]:
    """Run units of work, one after another, for the length of the block."""
    await make_things(settings.libpq_url())
    async with Database(settings, "load") as database:
        load = asyncio.create_task(Writer(database, pause_seconds=pause_seconds).run())
        yield
        await ended(load)


# The writer.

# Whether the unit in which the writer died is there afterwards; where it sent COMMIT, both may be.
IS_THERE = {
    Failpoint.BEFORE_DOMAIN_WRITE: False,
    Failpoint.BEFORE_MESSAGES: False,
    Failpoint.BEFORE_COMMIT: False,
    Failpoint.COMMIT_ANSWERED: True,
}
RECEIPTS = "SELECT count(*) FROM outbox.receipts WHERE consumer = 'writer'"


@pytest.mark.parametrize("point", points("write"))
async def test_a_writer_that_is_killed_there_has_done_each_unit_once_or_not_at_all(
    point: Failpoint, quick: Settings, witness: Witness, postgres: Connection
) -> None:
    """I1-I5, I10, I11: another writer changes the same rows beside it, and a relay publishes."""
    killer = Killer(point, quick)
    with reported(killer) as counted:
        async with running(Relay(quick)):
            async with writing(quick, pause_seconds=0.01):
                done = await kill_writers(killer, postgres)
                await repeat_all(quick, done)
            verdict = await witness.saw_all()
        counted["duplicates"] = witness.seen.copies
    assert verdict.at_least_once, verdict
    assert await number(postgres, RECEIPTS) == done + 1
    assert await disagreeing(quick.libpq_url()) == []


async def kill_writers(killer: Killer, postgres: Connection) -> int:
    """Return how many units the writers were told to be done; each of these is done."""
    done = 0
    while killer.kills < KILLS:
        async with killer.victim("writer", str(done)) as victim:
            await killer.die(victim)
        done += len(victim.events("acknowledged"))
        there = await number(postgres, RECEIPTS)
        assert there >= done, "a unit that was acknowledged is gone"
        assert IS_THERE.get(killer.point, there > done) is (there > done)
    return done


async def repeat_all(settings: Settings, done: int) -> None:
    """Repeat the unit of unknown outcome, and then each unit once more, without further effect."""
    async with Database(settings, "writer") as database:
        await Writer(database, done=done).repeat(1)
        await Writer(database).repeat(done + 1)


async def number(postgres: Connection, statement: str) -> int:
    row = await (await postgres.execute(statement.encode())).fetchone()
    assert row is not None
    return int(row[0])


# The service.


async def test_a_service_that_is_killed_before_it_answers_gives_the_answer_to_the_repetition(
    quick: Settings,
) -> None:
    """`write-6`, I2-I5, I10, I11: the caller repeats what was not answered, under the same key."""
    own = quick.model_copy(update={"http_port": free_ports(1)[0]})
    caller, killer = Caller(f"http://127.0.0.1:{own.http_port}"), Killer(Failpoint.REPLY_READY, own)
    with reported(killer) as counted:
        async with Witness(own, ItemUpserted.topic) as witness, running(Relay(own)):
            calling = asyncio.create_task(caller.run())
            await kill_services(killer)
            async with Role("http", own):
                caller.stop()
                await calling
                assert await caller.all_again() == caller.answers
            verdict = await witness.saw_all()
        counted["duplicates"] = witness.seen.copies
    assert verdict.at_least_once, verdict
    assert verdict.committed == len(caller.answers) - 1, (
        "an item's version a request, but the first"
    )


async def kill_services(killer: Killer) -> None:
    while killer.kills < KILLS:
        async with killer.victim("http") as victim:
            await killer.die(victim)
