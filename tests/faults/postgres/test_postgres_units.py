"""What may happen to one unit of work: P3, P8, P9. Each ends as exactly one change and event."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from consumers.settings import Settings
from outbox.errors import AlreadyHandled, Contention, DependencyDown
from outbox.write.database import Database
from outbox.write.unit_of_work import UnitOfWork
from schemas.envelope import Envelope
from tests.kit.proxies.postgres_proxy import Cut, PostgresProxy, address_of, url_through
from tests.kit.verdicts.history import Happened

pytestmark = pytest.mark.anyio

CAUSE = Envelope("command-1", "/test", "faults.do.v1", "a", b"{}")
ADD = text("UPDATE things SET n = n + 1 WHERE id = :id")
TOTAL = text("SELECT sum(n) FROM things")
STATE = """
    SELECT thing.id, n, (SELECT array_agg(version ORDER BY position) FROM outbox.messages
                         WHERE aggregateid = thing.id)
    FROM things AS thing ORDER BY thing.id
"""
WITHIN_SECONDS = 30.0


@pytest.fixture
async def things(postgres: psycopg.AsyncConnection) -> psycopg.AsyncConnection:
    await postgres.execute("CREATE TABLE things (id text PRIMARY KEY, n int NOT NULL)")
    await postgres.execute("INSERT INTO things VALUES ('a', 0), ('b', 0)")
    return postgres


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    async with Database(settings, "units") as database:
        yield database


async def state(connection: psycopg.AsyncConnection) -> list[tuple[str, int, list[int] | None]]:
    """Return each thing, how often it was changed, and the versions of its events."""
    return await (await connection.execute(STATE)).fetchall()


async def add(uow: UnitOfWork, thing: str) -> None:
    await uow.connection.execute(ADD, {"id": thing})
    uow.publish(Happened(thing=thing))


async def handle(database: Database) -> None:
    async with database.unit_of_work("add", cause=CAUSE) as uow:
        await add(uow, "a")
        await uow.commit()


@pytest.mark.parametrize("delivered", [True, False])
async def test_a_commit_whose_answer_is_lost_is_settled_by_a_repetition(
    settings: Settings, database: Database, things: psycopg.AsyncConnection, delivered: bool
) -> None:
    """P9, M20: it may be committed or not; the same command again makes it exactly one."""
    url = settings.libpq_url()
    async with PostgresProxy(address_of(url)) as proxy:
        proxy.cut = Cut(delivered=delivered)
        through = {"postgres_url": SecretStr(url_through(proxy, url))}
        async with Database(settings.model_copy(update=through), "units") as cut:
            with pytest.raises(DependencyDown):
                await handle(cut)
    assert await state(things) == [
        ("a", int(delivered), [1] if delivered else None),
        ("b", 0, None),
    ]
    if delivered:
        with pytest.raises(AlreadyHandled):
            await handle(database)
    else:
        await handle(database)
    assert await state(things) == [("a", 1, [1]), ("b", 0, None)]


async def test_a_deadlock_is_run_again_and_says_each_thing_once(
    database: Database, things: psycopg.AsyncConnection
) -> None:
    """P8: two units lock two rows crosswise; PostgreSQL ends one of them."""
    both_hold_one = asyncio.Barrier(2)
    attempts = 0

    async def crosswise(first: str, second: str) -> None:
        nonlocal attempts
        attempts += 1
        async with database.unit_of_work("crosswise") as uow:
            await add(uow, first)
            if attempts <= 2:
                await both_hold_one.wait()
            await add(uow, second)
            await uow.commit()

    async with asyncio.timeout(WITHIN_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(database.retry_on_contention(lambda: crosswise("a", "b")))
        group.create_task(database.retry_on_contention(lambda: crosswise("b", "a")))
    assert attempts == 3
    assert await state(things) == [("a", 2, [1, 2]), ("b", 2, [1, 2])]


async def test_a_write_skew_is_run_again_and_says_each_thing_once(
    database: Database, things: psycopg.AsyncConnection
) -> None:
    """P8: two serializable units each read what the other one changes."""
    both_have_read = asyncio.Barrier(2)
    totals: list[int] = []

    async def skewed(thing: str) -> None:
        async with database.unit_of_work("skewed") as uow:
            await uow.connection.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
            totals.append((await uow.connection.execute(TOTAL)).scalar_one())
            if len(totals) <= 2:
                await both_have_read.wait()
            await add(uow, thing)
            await uow.commit()

    async with asyncio.timeout(WITHIN_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(database.retry_on_contention(lambda: skewed("a")))
        group.create_task(database.retry_on_contention(lambda: skewed("b")))
    assert totals == [0, 0, 1], "the one that was ended read again, and saw the other's change"
    assert await state(things) == [("a", 1, [1]), ("b", 1, [1])]


async def test_without_a_repetition_the_victim_leaves_nothing(
    database: Database, things: psycopg.AsyncConnection
) -> None:
    """P8: the caller gets Contention, and neither a row nor an event of the unit stays."""
    both_hold_one = asyncio.Barrier(2)

    async def crosswise(first: str, second: str) -> bool:
        with suppress(Contention):
            async with database.unit_of_work("crosswise") as uow:
                await add(uow, first)
                await both_hold_one.wait()
                await add(uow, second)
                await uow.commit()
                return True
        return False

    async with asyncio.timeout(WITHIN_SECONDS):
        done = await asyncio.gather(crosswise("a", "b"), crosswise("b", "a"))
    assert sorted(done) == [False, True]
    assert await state(things) == [("a", 1, [1]), ("b", 1, [1])]


async def test_an_event_said_before_its_row_is_touched_takes_its_place_at_the_commit(
    database: Database, things: psycopg.AsyncConnection
) -> None:
    """P3: `publish` only collects, so the first to commit has the lower version and position."""
    async with database.unit_of_work("early") as early:
        early.publish(Happened(thing="a"))
        async with database.unit_of_work("late") as late:
            await add(late, "a")
            (first,) = await late.commit()
        await early.connection.execute(ADD, {"id": "a"})
        (second,) = await early.commit()
    assert (first.version, second.version) == (1, 2)
    assert first.position < second.position
    assert await state(things) == [("a", 2, [1, 2]), ("b", 0, None)]
