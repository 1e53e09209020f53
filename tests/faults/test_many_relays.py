"""R4: ten relays that come and go at random are one publisher at a time."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import psycopg
import pytest

from consumers.settings import Settings
from tests.faults.deliveries import recorded_once
from tests.faults.length import seconds
from tests.faults.load import Load
from tests.faults.role import Role
from tests.faults.witness import Witness

pytestmark = pytest.mark.anyio

RANDOM_SECONDS = seconds(15, 180)
SEED = 4
EVENTS_PER_SECOND = 100
TERMS = 5


async def come_and_go(relays: Sequence[Role], rng: random.Random, until_then: float) -> None:
    """One after another starts, or ends by SIGTERM or SIGKILL, at random moments.

    For longer on a slow machine, until enough of them have led.
    """
    while time.monotonic() < until_then or len(owners_of(relays)) < TERMS:
        relay = rng.choice(relays)
        if not relay.running:
            await relay.start()
        elif rng.random() < 0.5:
            await relay.kill()
        else:
            await relay.terminate()
        await asyncio.sleep(rng.uniform(0.0, 0.6))


@pytest.mark.slow
@pytest.mark.timeout(1_200)
async def test_ten_relays_that_come_and_go_are_one_publisher_a_term(
    settings: Settings, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """R4: each term had one owner, and each message was first published, and recorded, in one."""
    quick = settings.model_copy(update={"lease_seconds": 2.0, "page_messages": 50})
    relays = [Role("relay", quick) for _ in range(10)]
    async with AsyncExitStack() as ends:
        for relay in relays:
            ends.push_async_exit(relay)
        async with Load(quick, EVENTS_PER_SECOND):
            await come_and_go(relays, random.Random(SEED), time.monotonic() + RANDOM_SECONDS)
        await running_one(relays)
        verdict = await witness.saw_all()
        await recorded_once(postgres, verdict.committed)
    owners = owners_of(relays)
    assert verdict.at_least_once, verdict
    assert all(len(of_term) == 1 for of_term in owners.values())
    assert {number for _, number, _ in witness.seen.terms} <= owners.keys()
    assert witness.seen.stale(only_new=True) == 0


async def running_one(relays: Sequence[Role]) -> None:
    if not any(relay.running for relay in relays):
        await relays[0].start()


def owners_of(relays: Sequence[Role]) -> dict[int, set[str]]:
    """Term to who led in it, by their own account."""
    owners: dict[int, set[str]] = {}
    for relay in relays:
        for line in relay.events("relay leads"):
            owners.setdefault(line["term"], set()).add(line["owner"])
    return owners
