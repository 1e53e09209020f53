"""The leading relay makes daily partitions ahead, and never at a writer's cost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from consumers.settings import Settings
from outbox.retention.create_ahead import PartitionCreator
from tests.kit.aged import fetch, publish
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

MADE_BY_THE_MIGRATION = 3
DROP_TODAY = """
DO $$ BEGIN
    EXECUTE 'DROP TABLE outbox.messages_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD');
END $$
"""


class Clock:
    """A clock whose seconds pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def of_days(settings: Settings, days: int, clock: Clock) -> PartitionCreator:
    update = {"partitions_ahead_days": days, "partitions_check_seconds": 60.0}
    return PartitionCreator(settings.model_copy(update=update), clock)


async def test_missing_days_are_made_once_and_looked_for_when_it_is_time(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    clock = Clock()
    partitions = of_days(settings, MADE_BY_THE_MIGRATION + 2, clock)
    assert await partitions.create_when_due(postgres) == 2
    await _forget_the_last_day(postgres)
    clock.seconds = 59
    assert await partitions.create_when_due(postgres) == 0
    clock.seconds = 61
    assert await partitions.create_when_due(postgres) == 1


async def _forget_the_last_day(postgres: psycopg.AsyncConnection) -> None:
    rows = await postgres.execute(
        "SELECT max(inhrelid::regclass::text) FROM pg_inherits"
        " WHERE inhparent = 'outbox.messages'::regclass"
        "   AND inhrelid::regclass::text <> 'outbox.messages_default'"
    )
    row = await rows.fetchone()
    assert row is not None
    await postgres.execute(f"DROP TABLE {row[0]}".encode())


async def test_a_lock_in_the_way_puts_it_off_and_raises_nothing(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    clock = Clock()
    partitions = of_days(settings, MADE_BY_THE_MIGRATION + 1, clock)
    async with await psycopg.AsyncConnection.connect(settings.libpq_url()) as other:
        await other.execute("LOCK TABLE outbox.messages IN ACCESS EXCLUSIVE MODE")
        assert await partitions.create_when_due(postgres) == 0
    clock.seconds = 61
    assert await partitions.create_when_due(postgres) == 1


@asynccontextmanager
async def while_days_are_made(
    settings: Settings, ahead: int
) -> AsyncIterator[tuple[psycopg.AsyncConnection, psycopg.AsyncConnection]]:
    """Yield a session that has made days and not committed them, and another one in autocommit."""
    async with (
        await psycopg.AsyncConnection.connect(settings.libpq_url()) as maker,
        await psycopg.AsyncConnection.connect(settings.libpq_url(), autocommit=True) as another,
    ):
        await maker.execute("SELECT outbox.create_partitions(%s)", [ahead])
        yield maker, another


async def test_a_reader_beside_the_making_of_days_sees_every_message(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """Rows of the default partition stay there: a query planned meanwhile would miss moved ones."""
    await postgres.execute(DROP_TODAY)
    await publish(postgres, *"abc")
    async with while_days_are_made(settings, 9) as (maker, reader):
        reading = asyncio.create_task(fetch(reader, "SELECT count(*) FROM outbox.messages"))
        await until(lambda: waits(postgres, reader), within_seconds=10)
        await maker.commit()
        assert await reading == [(3,)]
    assert await fetch(postgres, "SELECT count(*) FROM outbox.messages_default") == [(3,)]


async def test_a_writer_beside_the_making_of_its_own_day_writes(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """The writer waits, and finds the day, rather than being refused by the default partition."""
    await postgres.execute(DROP_TODAY)
    async with while_days_are_made(settings, 0) as (maker, writer):
        writing = asyncio.create_task(publish(writer, "a"))
        await until(lambda: waits(postgres, writer), within_seconds=10)
        await maker.commit()
        await writing
    assert await fetch(postgres, "SELECT count(*) FROM outbox.messages_default") == [(0,)]


async def waits(postgres: psycopg.AsyncConnection, other: psycopg.AsyncConnection) -> bool:
    """Return whether this session waits for a lock."""
    found = await postgres.execute(
        "SELECT FROM pg_locks WHERE pid = %s AND NOT granted", [other.info.backend_pid]
    )
    return await found.fetchone() is not None
