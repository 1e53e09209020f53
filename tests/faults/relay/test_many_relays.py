"""R4: ten relays that come and go at random are one publisher at a time."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import psycopg
import pytest

from consumers.settings import Settings
from outbox.status import read_status
from tests.kit.load.length import seconds
from tests.kit.load.load import Load
from tests.kit.load.role import Role
from tests.kit.verdicts.deliveries import recorded_once
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

RANDOM_SECONDS = seconds(15, 180)
SEED = 4
EVENTS_PER_SECOND = 100
TERMS = 8  # at least; FD8: however long a busy machine takes for a start
WITHIN_SECONDS = 120.0


class Nemesis:
    """Starts one relay after another, or ends one by SIGTERM or SIGKILL, at random moments."""

    def __init__(self, relays: Sequence[Role], postgres: psycopg.AsyncConnection) -> None:
        self._relays = relays
        self._postgres = postgres
        self._rng = random.Random(SEED)

    async def work_until(self, end: float) -> None:
        """Go on until that moment of the monotonic clock, and until there were enough terms."""
        while time.monotonic() < end:
            await self._strike()
            await asyncio.sleep(self._rng.uniform(0.0, 0.6))
        while await self._term() < TERMS:
            await running_one(self._relays)
            await until(self._somebody_leads, WITHIN_SECONDS)
            await self._strike()

    async def _strike(self) -> None:
        relay = await self._victim()
        if not relay.running:
            await relay.start()
        elif self._rng.random() < 0.5:
            await relay.kill()
        else:
            await relay.terminate()

    async def _term(self) -> int:
        return (await read_status(self._postgres)).relay_term

    async def _somebody_leads(self) -> bool:
        return (await read_status(self._postgres)).relay_leading

    async def _victim(self) -> Role:
        """Choose every second time the leading relay, if one leads."""
        owner = (await read_status(self._postgres)).relay_owner or ":0:"
        leader = [r for r in self._relays if r.running and str(r.pid) == owner.split(":")[1]]
        return self._rng.choice(leader if leader and self._rng.random() < 0.5 else self._relays)


@pytest.mark.faults_only
@pytest.mark.timeout(1_200)
async def test_ten_relays_that_come_and_go_are_one_publisher_a_term(
    settings: Settings, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """R4: each term had one owner; each message was first published, and recorded, in one term."""
    quick = settings.model_copy(update={"lease_seconds": 2.0, "page_messages": 50})
    relays = [Role("relay", quick) for _ in range(10)]
    async with AsyncExitStack() as ends:
        for relay in relays:
            ends.push_async_exit(relay)
        async with Load(quick, EVENTS_PER_SECOND):
            await Nemesis(relays, postgres).work_until(time.monotonic() + RANDOM_SECONDS)
        await running_one(relays)
        verdict = await witness.saw_all()
        await recorded_once(postgres, verdict.committed)
    owners = owners_of(relays)
    assert verdict.at_least_once, verdict
    assert all(len(of_term) == 1 for of_term in owners.values())
    assert {number for _, number, _ in witness.seen.terms} <= owners.keys()
    assert len(owners) > 3, "there were too few terms to tell"
    assert witness.seen.stale(only_new=True) == 0


async def running_one(relays: Sequence[Role]) -> None:
    if not any(relay.running for relay in relays):
        await relays[0].start()


def owners_of(relays: Sequence[Role]) -> dict[int, set[str]]:
    """Return who led in each term, by the relays' own logs."""
    owners: dict[int, set[str]] = {}
    for relay in relays:
        for line in relay.events("relay leads"):
            owners.setdefault(line["term"], set()).add(line["owner"])
    return owners
