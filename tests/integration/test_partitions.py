"""Days are made ahead by whoever relays, and never at a writer's cost."""

import psycopg
import pytest

from consumers.settings import Settings
from outbox.partitions import Partitions

pytestmark = pytest.mark.anyio

MADE_BY_THE_MIGRATION = 3


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def of_days(settings: Settings, days: int, clock: Clock) -> Partitions:
    update = {"partitions_ahead_days": days, "partitions_check_seconds": 60.0}
    return Partitions(settings.model_copy(update=update), clock)


async def test_missing_days_are_made_once_and_looked_for_when_it_is_time(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    clock = Clock()
    partitions = of_days(settings, MADE_BY_THE_MIGRATION + 2, clock)
    assert await partitions.keep(postgres) == 2
    await _forget_the_last_day(postgres)
    clock.seconds = 59
    assert await partitions.keep(postgres) == 0
    clock.seconds = 61
    assert await partitions.keep(postgres) == 1


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
        assert await partitions.keep(postgres) == 0
    clock.seconds = 61
    assert await partitions.keep(postgres) == 1
