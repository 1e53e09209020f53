"""Dead letters under live traffic: no message of a key overtakes another, and none is lost.

Fault row C12, invariant I12.
"""

import asyncio
import random
from pathlib import Path
from typing import Any

import psycopg
import pytest

from consumers.dead_letters.listing import list_letters
from consumers.runner.runner import Runner
from consumers.settings import Settings
from tests.kit.consumers.ledger import Ledger, first_occurrences, records
from tests.kit.consumers.letter_traffic import (
    WITHIN_SECONDS,
    Traffic,
    all_closed,
    all_read,
    found,
    shown,
    until_lines,
)
from tests.kit.consumers.letters import discard_all, retry_all
from tests.kit.load.kills import SEED
from tests.kit.load.length import times
from tests.kit.load.role import Role
from tests.kit.load.roles import running, send_records
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection[Any]

ROUNDS = times(4, 60)
BEHIND = times(60, 500)  # how many messages of a key wait
KEYS, WAITING_EACH = 8, 10
KILLS = times(3, 30)


async def test_a_retried_letter_comes_before_all_that_waits_and_all_that_is_live(
    quick: Settings, postgres: Connection, ledger: Ledger
) -> None:
    """C12: retried too early it is dead again and its attempts add up; other keys flow on."""
    ledger.refuse(("bad", 3))
    traffic = Traffic(quick, ("bad", "good"), 0.02)
    async with running(Runner(quick, ledger)):
        async with running(traffic):
            (dead,) = await found(postgres, "dead")
            await shown(ledger, "good", traffic.version + 5)
            assert ledger.versions()["bad"] == [1, 2]
            await retry_all(postgres)

            async def twice() -> bool:
                return (await found(postgres, "dead"))[0].attempts == 2 * dead.attempts

            await until(twice, WITHIN_SECONDS)
            assert ledger.versions()["bad"] == [1, 2]
            ledger.refuse()
            await retry_all(postgres)
            await all_closed(postgres)
            await shown(ledger, "bad", traffic.version + 5)
        await all_read(quick)
        await all_closed(postgres)
    every = list(range(1, traffic.version + 1))
    assert ledger.versions() == {"bad": every, "good": every}


async def test_a_discarded_letter_is_skipped_and_what_waits_is_redone(
    quick: Settings, postgres: Connection, ledger: Ledger
) -> None:
    """C12: of two dead letters of a key, each is discarded and what waits behind it applied."""
    ledger.refuse(("bad", 2), ("bad", 4))
    async with running(Runner(quick, ledger)):
        await send_records(quick, records(["bad", "good"], 1, 6))
        await found(postgres, "waiting", letters=4)
        await discard_all(postgres)

        async def fourth() -> bool:
            return [each.status for each in await list_letters(postgres)] == [
                "dead",
                *["waiting"] * 2,
            ]

        await until(fourth, WITHIN_SECONDS)
        assert ledger.versions()["bad"] == [1, 3]
        await discard_all(postgres)
        await all_closed(postgres)
        await send_records(quick, records(["bad", "good"], 7, 8))
        await shown(ledger, "bad", 8)
        await all_read(quick)
    assert ledger.versions() == {"bad": [1, 3, 5, 6, 7, 8], "good": list(range(1, 9))}


async def test_no_live_message_overtakes_in_the_moment_in_which_its_key_is_unparked(
    quick: Settings, postgres: Connection, ledger: Ledger
) -> None:
    """C12: under traffic a key is parked, and its letter retried or discarded, again and again."""
    rng = random.Random(SEED)
    traffic = Traffic(quick, ("bad", "good"), 0.01)
    skipped = []
    async with running(Runner(quick, ledger)):
        async with running(traffic):
            for _ in range(ROUNDS):
                version = traffic.version + 20
                ledger.refuse(("bad", version))
                await found(postgres, "dead")
                if rng.random() < 0.5:
                    skipped.append(version)
                    await discard_all(postgres)
                else:
                    ledger.refuse()
                    await retry_all(postgres)
                await asyncio.sleep(rng.random() * 0.2)  # any moment of its redelivery
                await all_closed(postgres)
        await all_read(quick)
        await all_closed(postgres)
    every = list(range(1, traffic.version + 1))
    assert ledger.versions()["good"] == every
    assert ledger.versions()["bad"] == [each for each in every if each not in skipped]


async def test_a_consumer_that_is_killed_while_it_redoes_goes_on_from_the_database(
    settings: Settings, postgres: Connection, ledger: Ledger, tmp_path: Path
) -> None:
    """C12, I6: kill -9 at random moments; at most one message a kill is applied twice."""
    rng = random.Random(SEED)
    ledger.refuse(("bad", 1))
    await send_records(settings, records(["bad", "good"], 1, BEHIND))
    async with Role("ledger", settings, str(tmp_path)) as consumer:
        await found(postgres, "waiting", letters=BEHIND - 1)
        ledger.refuse()
        await retry_all(postgres)
        for kill in range(1, KILLS + 1):
            await shown(ledger, "bad", kill * BEHIND // (KILLS + 1) + rng.randrange(3))
            await consumer.kill()
            assert len(await list_letters(postgres)) > 0, "it was too quick to be killed"
            await send_records(settings, records(["bad", "good"], BEHIND + kill, BEHIND + kill))
            await consumer.start()
        await all_closed(postgres)
        await all_read(settings)
    every = list(range(1, BEHIND + KILLS + 1))
    applied = ledger.versions()
    assert {key: first_occurrences(versions) for key, versions in applied.items()} == {
        "bad": every, "good": every,
    }  # fmt: skip
    assert len(applied["bad"]) <= len(every) + KILLS


@pytest.mark.usefixtures("real_kafka")
async def test_of_several_members_one_redoes_a_letter_also_while_another_one_joins(
    settings: Settings, postgres: Connection, ledger: Ledger, tmp_path: Path
) -> None:
    """C5, C12: the member that has a partition has its letters; only a real broker moves one."""
    keys = [f"key-{number}" for number in range(KEYS)]
    ledger.refuse(*((key, 1) for key in keys))
    await send_records(settings, records(keys, 1, WAITING_EACH))
    async with Role("ledger", settings, str(tmp_path)):
        await found(postgres, "waiting", letters=KEYS * (WAITING_EACH - 1))
        ledger.refuse()
        await retry_all(postgres)
        await until_lines(ledger, KEYS)
        async with Role("ledger", settings, str(tmp_path)) as second:
            await second.ready()
            await all_closed(postgres)
            await send_records(settings, records(keys, WAITING_EACH + 1, WAITING_EACH + 5))
            await all_read(settings)
            await all_closed(postgres)
    every = list(range(1, WAITING_EACH + 6))
    applied = ledger.versions()
    assert {key: first_occurrences(applied[key]) for key in keys} == dict.fromkeys(keys, every)
    assert len({process for _, _, process in ledger.lines()}) == 2
    again = sum(map(len, applied.values())) - KEYS * len(every)
    assert again <= KEYS, "what came again is at most what ran while the partitions were given away"
