"""A pipeline: nothing behind a failure is done, and the connection can be used after it."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from outbox.postgres.pipeline import COMMIT, Request, Statement, execute_at_once

pytestmark = pytest.mark.anyio

NOTES = "CREATE TABLE notes (n bigint PRIMARY KEY, text text)"
INSERT = Statement.of("INSERT INTO notes VALUES (%(n)b, %(text)b) RETURNING n, length(text)")
COUNT = Request(Statement.of("SELECT count(*) FROM notes"))
PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'INSERT INTO notes%%'"


@pytest.fixture
async def driver(postgres: psycopg.AsyncConnection) -> AsyncIterator[psycopg.AsyncConnection]:
    """Give a connection without autocommit, and a table to write to."""
    await postgres.execute(NOTES)
    async with await psycopg.AsyncConnection.connect(postgres.info.dsn) as connection:
        yield connection


def insert(n: int, text: str = "") -> Request:
    return Request(INSERT, {"n": n, "text": text})


async def read_numbers(postgres: psycopg.AsyncConnection) -> list[int]:
    rows = await postgres.execute("SELECT n FROM notes ORDER BY n")
    return [n for (n,) in await rows.fetchall()]


async def test_each_request_has_its_rows_and_the_commit_is_done(
    driver: psycopg.AsyncConnection, postgres: psycopg.AsyncConnection
) -> None:
    answers = await execute_at_once(driver, [insert(1, "a"), insert(2, "bc"), COUNT, COMMIT])
    assert answers == [[(1, 1)], [(2, 2)], [(2,)], []]
    assert await read_numbers(postgres) == [1, 2]
    assert driver.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def test_nothing_behind_a_failure_is_done(
    driver: psycopg.AsyncConnection, postgres: psycopg.AsyncConnection
) -> None:
    await execute_at_once(driver, [insert(1), COMMIT])
    with pytest.raises(psycopg.errors.UniqueViolation):
        await execute_at_once(driver, [insert(2), insert(1), insert(3), COMMIT])
    await driver.rollback()
    assert await read_numbers(postgres) == [1]
    assert await execute_at_once(driver, [insert(4), COMMIT]) == [[(4, 0)], []]


async def test_a_value_that_nobody_can_send_is_refused_before_anything_is_sent(
    driver: psycopg.AsyncConnection, postgres: psycopg.AsyncConnection
) -> None:
    unknown_type = Request(INSERT, {"n": 2, "text": object()})
    with pytest.raises(psycopg.ProgrammingError, match="cannot adapt"):
        await execute_at_once(driver, [insert(1), unknown_type, COMMIT])
    await execute_at_once(driver, [insert(3), COMMIT])
    assert await read_numbers(postgres) == [3]


async def test_a_statement_is_prepared_once_a_session_for_each_kind_of_values(
    driver: psycopg.AsyncConnection,
) -> None:
    for n in (1, 2, 1 << 40, 1 << 41):
        await execute_at_once(driver, [insert(n), COMMIT])
    assert await (await driver.execute(PREPARED)).fetchone() == (2,)


async def test_a_connection_that_may_not_prepare_prepares_nothing(
    driver: psycopg.AsyncConnection, postgres: psycopg.AsyncConnection
) -> None:
    driver.prepare_threshold = None
    await execute_at_once(driver, [insert(1), insert(2), COMMIT])
    assert await (await driver.execute(PREPARED)).fetchone() == (0,)
    assert await read_numbers(postgres) == [1, 2]


async def test_a_session_that_lost_its_statements_prepares_them_again(
    driver: psycopg.AsyncConnection, postgres: psycopg.AsyncConnection
) -> None:
    await execute_at_once(driver, [insert(1), COMMIT])
    await driver.execute(
        "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"
    )  # psycopg does not see this
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        await execute_at_once(driver, [insert(2), COMMIT])
    await driver.rollback()
    await execute_at_once(driver, [insert(2), COMMIT])
    assert await read_numbers(postgres) == [1, 2]


async def test_a_rollback_costs_no_attempt(
    driver: psycopg.AsyncConnection, postgres: psycopg.AsyncConnection
) -> None:
    """After a rollback, psycopg has the session forget all prepared statements."""
    for n in (1, 2):
        await execute_at_once(driver, [insert(n), COMMIT])
        await driver.execute("SELECT 1", prepare=True)
        await driver.rollback()
    assert await read_numbers(postgres) == [1, 2]


async def test_the_same_new_statement_twice_is_prepared_once(
    driver: psycopg.AsyncConnection, postgres: psycopg.AsyncConnection
) -> None:
    await execute_at_once(driver, [insert(1), insert(2), COMMIT])
    await execute_at_once(driver, [insert(3), COMMIT])
    assert await read_numbers(postgres) == [1, 2, 3]


async def test_a_table_that_was_altered_costs_one_attempt(
    driver: psycopg.AsyncConnection, postgres: psycopg.AsyncConnection
) -> None:
    await execute_at_once(driver, [insert(1), COMMIT])
    await postgres.execute("ALTER TABLE notes ALTER n TYPE integer")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        await execute_at_once(driver, [insert(2), COMMIT])
    await driver.rollback()
    await execute_at_once(driver, [insert(2), COMMIT])
    assert await read_numbers(postgres) == [1, 2]


async def test_the_transaction_begins_as_the_connection_was_told_to(
    driver: psycopg.AsyncConnection,
) -> None:
    await driver.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE)
    level = Request(Statement.of("SHOW transaction_isolation"))
    assert await execute_at_once(driver, [level, COMMIT]) == [[("serializable",)], []]


async def test_values_larger_than_every_buffer_pass_both_ways(
    driver: psycopg.AsyncConnection,
) -> None:
    large = Statement.of("SELECT %(text)b::text")
    texts = [str(n) * 4_000_000 for n in range(4)]
    answers = await execute_at_once(driver, [Request(large, {"text": text}) for text in texts])
    assert answers == [[(text,)] for text in texts]


async def test_a_task_that_is_cancelled_while_it_waits_leaves_a_connection_to_use(
    driver: psycopg.AsyncConnection, postgres: psycopg.AsyncConnection
) -> None:
    async with postgres.transaction():
        await postgres.execute("INSERT INTO notes VALUES (1)")
        waiting = asyncio.create_task(execute_at_once(driver, [insert(1), COMMIT]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting, 0.3)
    await driver.rollback()
    await execute_at_once(driver, [insert(2), COMMIT])
    assert await read_numbers(postgres) == [1, 2]


async def test_a_connection_that_is_lost_says_so(
    driver: psycopg.AsyncConnection, postgres: psycopg.AsyncConnection
) -> None:
    await driver.execute("SELECT 1")
    await postgres.execute("SELECT pg_terminate_backend(%s)", [driver.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        await execute_at_once(driver, [insert(1), COMMIT])
    assert driver.closed
    assert await read_numbers(postgres) == []
