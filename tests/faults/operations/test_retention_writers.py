"""Retention beside writers and a relay: nobody waits for long, and nothing is lost; D2, I2-I5."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.sql import SQL

from consumers.settings import Settings
from outbox.errors import DependencyDown, translate_errors
from outbox.relay.relay import Relay
from outbox.retention.retention import Retention
from outbox.status import read_status
from tests.faults.operations.test_retention import said, saw
from tests.kit.aged import all_published, fetch, publish, publish_aged, require_latest
from tests.kit.load.load import commit_events
from tests.kit.load.relaying import nothing_pending
from tests.kit.load.roles import running
from tests.kit.load.writer import ended
from tests.kit.past_days import days_there, past_day
from tests.kit.verdicts.history import write
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection

WITHIN_SECONDS = 60.0
BURSTS = 60
TODAY = """
SELECT to_regclass('outbox.messages_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD'))::text
"""
LIMIT_SECONDS = 0.4


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_day_that_is_written_may_be_dropped_under_load_and_nothing_is_lost(
    settings: Settings, witness: Witness, postgres: Connection
) -> None:
    """D2, P25, I2-I5: again and again, as after a clock that leapt; every key keeps its latest."""
    leapt = datetime.now(UTC).date() + timedelta(days=8)
    few = settings.model_copy(update={"prune_chunk_messages": 100})
    dropped = late = 0
    async with running(Relay(settings)):
        writing = asyncio.create_task(bursts(settings))
        while not writing.done():
            pruned = await Retention(postgres, few, today=leapt).prune()
            dropped, late = dropped + len(pruned.dropped), late + pruned.late
            await require_latest(postgres)
        await writing
        await until(lambda: nothing_pending(postgres), WITHIN_SECONDS)
    verdict = await saw(witness, await said(postgres))
    assert verdict.right, verdict
    assert (await Retention(postgres, few, today=leapt).prune()).left == {}
    await require_latest(postgres)
    assert min(dropped, late) > 5, (dropped, late)


async def bursts(settings: Settings) -> None:
    """Write by eight writers at once, into the daily partition, and beside it once it is gone."""
    async with await Connection.connect(settings.libpq_url(), autocommit=True) as connection:
        for seed in range(0, BURSTS, 2):
            await write(settings, 16, seed)
            await until(lambda: day_gone(connection), WITHIN_SECONDS, 0.01)
            await write(settings, 16, seed + 1)
            await until(lambda: nothing_late(connection), WITHIN_SECONDS, 0.01)
            await connection.execute("SELECT outbox.create_partitions(0)")


async def day_gone(connection: Connection) -> bool:
    return await fetch(connection, TODAY) == [(None,)]


async def nothing_late(connection: Connection) -> bool:
    return await fetch(connection, "SELECT FROM outbox.messages_default LIMIT 1") == []


@asynccontextmanager
async def open_transaction(settings: Settings) -> AsyncIterator[int]:
    """Hold a transaction open that has written, and yield its process id."""
    async with await Connection.connect(settings.libpq_url()) as slow:
        await publish(slow, "slow")
        yield slow.info.backend_pid
        await slow.rollback()


@asynccontextmanager
async def busy_writer(settings: Settings) -> AsyncIterator[Callable[[], int]]:
    """Write all the time; yield a function that returns how many writes are done by now."""
    done = 0

    async def writing() -> None:
        nonlocal done
        async with await Connection.connect(settings.libpq_url(), autocommit=True) as connection:
            while True:
                await publish(connection, "quick")
                done += 1
                await asyncio.sleep(0.001)

    task = asyncio.create_task(writing())
    yield lambda: done
    await ended(task)


def gone_on(writes: Callable[[], int]) -> Callable[[], Awaitable[bool]]:
    """Return a condition: a write that began after now is done. One under way may pass before."""
    before = writes()

    async def more() -> bool:
        return writes() > before + 1

    return more


@pytest.fixture
async def brisk(settings: Settings, postgres: Connection) -> Settings:
    """Return settings by which one partition is due and a prune may block for LIMIT_SECONDS."""
    await past_day(postgres, 9)
    await publish_aged(postgres, 9, "a")
    await all_published(postgres)
    milliseconds = int(LIMIT_SECONDS * 1000)
    return settings.model_copy(update={"prune_lock_timeout_milliseconds": milliseconds})


async def nobody(retention: Retention, day: object) -> None:
    """Find no session in the way, as if another session's times could not be read."""
    del retention, day


async def test_writers_wait_no_longer_than_the_limit_behind_a_transaction_that_stays_open(
    brisk: Settings, postgres: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D2, P4: the prune waits for its lock, the writers behind it, and it gives up in time."""
    monkeypatch.setattr(Retention, "_find_lock_holder", nobody)
    async with open_transaction(brisk), busy_writer(brisk) as writes:
        pruned = await Retention(postgres, brisk).prune()
        (why,) = pruned.left.values()
        assert why.startswith("locked")
        await until(gone_on(writes), WITHIN_SECONDS)
    assert len(await days_there(postgres)) == 1
    assert (await Retention(postgres, brisk).prune()).left == {}


async def test_nobody_waits_for_a_lock_that_is_not_to_be_had(
    brisk: Settings, postgres: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D2, P4: a session that uses the tables for too long is named, and no lock is asked for."""
    monkeypatch.setattr("outbox.retention.retention.LOCK", SQL("SELECT 1 / 0"))

    async def named() -> bool:
        (why,) = (await Retention(postgres, brisk).preview()).left.values()
        return f"process {pid}," in why

    async with open_transaction(brisk) as pid:
        await asyncio.sleep(LIMIT_SECONDS)
        await until(named, WITHIN_SECONDS)
        assert len((await Retention(postgres, brisk).prune()).left) == 1
    (why,) = (await Retention(postgres, brisk).prune()).left.values()
    assert why == "failed: division by zero"


async def test_a_prune_that_falls_silent_inside_its_drop_is_ended_by_the_server(
    brisk: Settings, postgres: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D2, R2: its process was stopped, or its network cut, while it holds its exclusive lock."""
    silent, over = asyncio.Event(), asyncio.Event()

    async def fall_silent(retention: Retention, subject: str, **details: object) -> None:
        del retention, subject, details
        silent.set()
        await over.wait()

    monkeypatch.setattr(Retention, "_record", fall_silent)
    async with await Connection.connect(brisk.libpq_url(), autocommit=True) as stopped:
        pruning = asyncio.create_task(Retention(stopped, brisk).prune())
        await silent.wait()
        async with busy_writer(brisk) as writes:
            await until(gone_on(writes), WITHIN_SECONDS)
            over.set()
            with pytest.raises(DependencyDown), translate_errors():
                await pruning
    assert len(await days_there(postgres)) == 1


@pytest.mark.parametrize("error", [psycopg.OperationalError("no"), ValueError("a bug")])
async def test_a_prune_that_fails_ends_no_term(
    settings: Settings,
    witness: Witness,
    postgres: Connection,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    """Whatever the failure is, the relay publishes on, in the same term."""
    failed = asyncio.Event()

    async def fail(retention: Retention) -> None:
        del retention
        failed.set()
        raise error

    monkeypatch.setattr(Retention, "prune", fail)
    unhurried = settings.model_copy(update={"lease_seconds": 60.0})
    async with running(Relay(unhurried)):
        await failed.wait()
        await commit_events(settings, 20)
        assert (await witness.saw_all()).right
        assert (await read_status(postgres)).relay_term == 1


async def test_a_prune_that_hangs_delays_neither_publishing_nor_the_end(
    settings: Settings, witness: Witness
) -> None:
    """G22: another session has locked what it wants."""
    async with await Connection.connect(settings.libpq_url()) as other:
        await other.execute("LOCK TABLE outbox.compacted IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(WITHIN_SECONDS), running(Relay(settings)):
            await until(lambda: somebody_waits(other), WITHIN_SECONDS)
            await commit_events(settings, 20)
            assert (await witness.saw_all()).right


async def somebody_waits(connection: Connection) -> bool:
    found = await connection.execute(
        "SELECT FROM pg_locks WHERE relation = 'outbox.compacted'::regclass AND NOT granted"
    )
    return await found.fetchone() is not None
