"""Dead letters under live traffic: nothing of a key overtakes, nothing is lost; C10, C12, I12."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from consumers.assembly import catalog_graph
from consumers.dead_letters.listing import Letter, LetterSelection, count_letters, list_letters
from consumers.dead_letters.repair import discard, retry
from consumers.projections.generations import LiveProjection
from consumers.projections.projection import StreamKey
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.kafka import Publisher, Record, count_unread
from outbox.operations import Operation
from schemas.catalog import ItemUpserted
from tests.kit.consumers.ledger import TOPIC, Ledger, first_occurrences, record, records
from tests.kit.load.kills import SEED
from tests.kit.load.length import seconds, times
from tests.kit.load.role import Role
from tests.kit.load.roles import projecting, running, send_records
from tests.kit.proxies.proxy import Proxy
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection[Any]

WITHIN_SECONDS = 60.0
ROUNDS = times(4, 60)
AWAY_SECONDS = seconds(6, 600)
BEHIND = times(60, 500)  # how many messages of a key wait
KEYS, WAITING_EACH = 8, 10
ITEMS = 5
KILLS = times(3, 30)


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """It looks for what a person retries ten times a second."""
    update = {
        "retry_poll_seconds": 0.1,
        "backoff_first_seconds": 0.01,
        "backoff_longest_seconds": 0.2,
        "unexpected_error_attempts": 2,
    }
    return settings.model_copy(update=update)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


class Traffic:
    """Events of some keys, one version of all after another, until it is stopped."""

    def __init__(self, settings: Settings, keys: tuple[str, ...], pause_seconds: float) -> None:
        self.version = 0
        self._settings = settings
        self._keys = keys
        self._pause_seconds = pause_seconds
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        async with Publisher(self._settings.kafka_url, 30.0) as publisher:
            while not self._stopping.is_set():
                await publisher.send(records(self._keys, self.version + 1, self.version + 1))
                self.version += 1
                await asyncio.sleep(self._pause_seconds)


def because(action: str) -> Operation:
    return Operation("tester", action, "test", "tested")


async def retry_all(postgres: Connection) -> list[int]:
    return await retry(postgres, LetterSelection(), because("dead-letters retry"))


async def discard_all(postgres: Connection) -> list[int]:
    return await discard(postgres, LetterSelection(), because("dead-letters discard"))


async def found(postgres: Connection, status: str, letters: int = 1) -> list[Letter]:
    """Those with that status, once there are so many."""
    there: list[Letter] = []

    async def enough() -> bool:
        nonlocal there
        there = [each for each in await list_letters(postgres) if each.status == status]
        return len(there) >= letters

    await until(enough, WITHIN_SECONDS)
    return there


async def all_closed(postgres: Connection) -> None:
    async def none() -> bool:
        return not await list_letters(postgres)

    await until(none, WITHIN_SECONDS)


async def all_read(settings: Settings) -> None:
    async def none() -> bool:
        return await count_unread(settings.kafka_url, "aftercommit.ledger", [TOPIC]) == 0

    await until(none, WITHIN_SECONDS)


async def shown(ledger: Ledger, key: str, version: int) -> None:
    """Once that version, or a later one, was applied."""

    async def there() -> bool:
        return max(ledger.versions()[key], default=0) >= version

    await until(there, WITHIN_SECONDS, 0.02)


async def test_a_retried_letter_comes_before_all_that_waits_and_all_that_is_live(
    quick: Settings, postgres: Connection, ledger: Ledger
) -> None:
    """C12: retried too early it is dead again, with its attempts; meanwhile other keys flow."""
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
    """C12."""
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
    """C12: parked, mended and retried, or discarded, again and again, under traffic."""
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
                await asyncio.sleep(rng.random() * 0.2)  # where in its redoing we look
                await all_closed(postgres)
        await all_read(quick)
        await all_closed(postgres)
    every = list(range(1, traffic.version + 1))
    assert ledger.versions()["good"] == every
    assert ledger.versions()["bad"] == [each for each in every if each not in skipped]


@asynccontextmanager
async def without_rights(url: str, postgres: Connection) -> AsyncIterator[str]:
    """The address for a role that may do all with dead letters, until somebody takes that away."""
    await postgres.execute(
        "CREATE ROLE consumer LOGIN PASSWORD 'secret';"
        "GRANT USAGE ON SCHEMA outbox TO consumer;"
        "GRANT SELECT, INSERT, UPDATE ON outbox.dead_letters TO consumer"
    )
    try:
        own = make_url(url).set(username="consumer", password="secret")  # noqa: S106 - the test's own
        yield own.render_as_string(hide_password=False)
    finally:
        await postgres.execute("DROP OWNED BY consumer; DROP ROLE consumer")


async def refused_statements(postgres: Connection) -> int:
    """How many statements have failed in this database."""
    asked = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    row = await (await postgres.execute(asked)).fetchone()
    assert row is not None
    return int(row[0])


async def test_without_the_dead_letter_table_nothing_is_committed_until_it_is_back(
    quick: Settings, postgres: Connection, ledger: Ledger
) -> None:
    """C10: the consumer waits, and goes on by itself."""
    ledger.refuse(("bad", 1))
    async with without_rights(quick.libpq_url(), postgres) as url:
        limited = quick.model_copy(update={"postgres_url": SecretStr(url)})
        async with running(Runner(limited, ledger)):
            await send_records(quick, records(["good"], 1, 1))
            await shown(ledger, "good", 1)
            await all_read(quick)
            await postgres.execute("REVOKE INSERT ON outbox.dead_letters FROM consumer")
            before = await refused_statements(postgres)
            await send_records(quick, records(["bad"], 1, 3))

            async def waits() -> bool:
                return await refused_statements(postgres) >= before + 3

            await until(waits, WITHIN_SECONDS)
            assert await count_unread(quick.kafka_url, "aftercommit.ledger", [TOPIC]) == 3
            assert await list_letters(postgres) == []
            await postgres.execute("GRANT INSERT ON outbox.dead_letters TO consumer")
            await found(postgres, "waiting", letters=2)
            await all_read(quick)
    assert ledger.versions() == {"good": [1]}
    (dead, *waiting) = await list_letters(postgres)
    assert (dead.status, dead.attempts, len(waiting)) == ("dead", 1, 2)


def items(name: str) -> list[Record]:
    states = [
        ItemUpserted(catalog_id="c", item_id=f"{name}-{n}", name=name, text=name)
        for n in range(ITEMS)
    ]
    return [record(state.key(), 1, state.payload()) for state in states]


async def has_all(graph: LiveProjection, name: str) -> bool:
    streams = [StreamKey(ItemUpserted.aggregate, f"c/{name}-{n}") for n in range(ITEMS)]
    return len(await graph.versions(streams)) == ITEMS


@pytest.mark.timeout(1_200)
async def test_an_outage_of_the_store_spends_no_attempt_and_makes_no_dead_letter(
    quick: Settings, postgres: Connection, graph: LiveProjection
) -> None:
    """C11, C12: the graph, a stand-in where Neo4j itself is not there, is away behind a proxy.

    LONG=1 has it away for ten minutes. Afterwards all is there, without a person.
    """
    async with Proxy(urlsplit(quick.neo4j_url).netloc) as proxy:
        behind = quick.model_copy(update={"neo4j_url": f"bolt://{proxy.address}"})
        async with catalog_graph(behind) as away, running(projecting(behind, away)):
            await send_records(quick, items("before"))
            await until(lambda: has_all(graph, "before"), WITHIN_SECONDS)
            await proxy.down()
            end = time.monotonic() + AWAY_SECONDS
            await send_records(quick, items("meanwhile"))

            async def over() -> bool:
                assert await list_letters(postgres) == []
                return time.monotonic() > end

            await until(over, 2 * AWAY_SECONDS + WITHIN_SECONDS)
            await proxy.up()
            await until(lambda: has_all(graph, "meanwhile"), WITHIN_SECONDS)
    assert await count_letters(postgres) == []


async def test_a_consumer_that_is_killed_while_it_redoes_goes_on_from_the_database(
    settings: Settings, postgres: Connection, ledger: Ledger, tmp_path: Path
) -> None:
    """C12, I6: kill -9 at moments that the seed draws; what came again is one message a kill."""
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
    """C5, C12: who has the partition has its letters; only a real broker gives partitions away."""
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


async def until_lines(ledger: Ledger, lines: int) -> None:
    """So many were applied."""

    async def there() -> bool:
        return len(ledger.lines()) >= lines

    await until(there, WITHIN_SECONDS, 0.02)
