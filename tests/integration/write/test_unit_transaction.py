"""FA4: whoever else ends a unit's transaction, its rows and events are kept together or not at all.

An ORM session on the unit's connection, the connection itself, its driver and a statement can each
end a transaction. Each of them is tried, with an exception after it and without.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from outbox.write.database import Database
from outbox.write.unit_of_work import UnitOfWork
from outbox.write.unit_transaction import NotItsTransaction
from schemas.envelope import Envelope
from tests.kit.orders import Order, Placed, UndoneError, driver_of, insert, read_orders, session_of

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection[Any]
CAUSE = Envelope("m-1", "/test", "test.do.v1", "k", b"{}")


@pytest.fixture(params=[None, CAUSE], ids=["without a cause", "with a cause"])
def cause(request: pytest.FixtureRequest) -> Envelope | None:
    """Return a cause: its receipt begins the transaction at the server before anything else."""
    found: Envelope | None = request.param
    return found


async def receipts(connection: Connection) -> int:
    row = await (await connection.execute("SELECT count(*) FROM outbox.receipts")).fetchone()
    assert row is not None
    return int(row[0])


# What was added to a session is written, and a session that ends the transaction is refused.


async def test_what_was_added_to_a_session_is_kept_with_its_event(
    database: Database, postgres: Connection, cause: Envelope | None
) -> None:
    async with database.unit_of_work("place", cause=cause) as uow:
        session = session_of(uow)
        session.add(Order(id="o"))
        uow.publish(Placed(order_id="o"))
        await uow.commit()
    assert await read_orders(postgres) == (["o"], ["o"])


async def test_what_was_changed_and_deleted_in_a_session_is_kept_with_its_event(
    database: Database, postgres: Connection
) -> None:
    await postgres.execute("INSERT INTO orders VALUES ('a', 1), ('b', 1)")
    async with database.unit_of_work("change") as uow:
        session = session_of(uow)
        changed, gone = await session.get(Order, "a"), await session.get(Order, "b")
        assert changed is not None
        changed.total = 2
        await session.delete(gone)
        uow.publish(Placed(order_id="a"))
        await uow.commit()
    found = await (await postgres.execute("SELECT id, total FROM orders")).fetchall()
    assert found == [("a", 2)]


async def test_a_row_that_breaks_a_rule_takes_its_event_along(
    database: Database, postgres: Connection
) -> None:
    await postgres.execute("INSERT INTO orders VALUES ('o', 1)")
    with pytest.raises(Exception, match="duplicate key"):
        async with database.unit_of_work("place") as uow:
            session = session_of(uow)
            session.add(Order(id="o"))
            uow.publish(Placed(order_id="o"))
            await uow.commit()
    assert await read_orders(postgres) == (["o"], [])


async def test_a_session_of_another_connection_is_left_alone(
    database: Database, postgres: Connection
) -> None:
    other = AsyncSession()
    other.add(Order(id="elsewhere"))
    async with database.unit_of_work("place") as uow:
        session = session_of(uow)
        session.add(Order(id="o"))
        uow.publish(Placed(order_id="o"))
        await uow.commit()
    assert await read_orders(postgres) == (["o"], ["o"])
    assert len(other.new) == 1


@pytest.mark.parametrize(
    "mode", ["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]
)
async def test_after_a_commit_of_the_session_an_exception_leaves_nothing(
    database: Database, postgres: Connection, cause: Envelope | None, mode: Any
) -> None:
    with pytest.raises((UndoneError, NotItsTransaction)):
        async with database.unit_of_work("place", cause=cause) as uow:
            session = session_of(uow, join_transaction_mode=mode)
            session.add(Order(id="o"))
            uow.publish(Placed(order_id="o"))
            await session.commit()
            raise UndoneError
    assert await read_orders(postgres) == ([], [])
    assert await receipts(postgres) == 0


@pytest.mark.parametrize("mode", ["conditional_savepoint", "rollback_only", "create_savepoint"])
async def test_a_commit_of_the_session_writes_and_the_unit_keeps(
    database: Database, postgres: Connection, cause: Envelope | None, mode: Any
) -> None:
    async with database.unit_of_work("place", cause=cause) as uow:
        session = session_of(uow, join_transaction_mode=mode)
        session.add(Order(id="o"))
        await session.commit()
        uow.publish(Placed(order_id="o"))
        await uow.commit()
    assert await read_orders(postgres) == (["o"], ["o"])


async def test_a_rollback_of_the_session_ends_the_unit(
    database: Database, postgres: Connection, cause: Envelope | None
) -> None:
    with pytest.raises(NotItsTransaction):
        async with database.unit_of_work("place", cause=cause) as uow:
            session = session_of(uow)
            session.add(Order(id="o"))
            uow.publish(Placed(order_id="o"))
            await session.flush()
            await session.rollback()
            await uow.commit()
    assert await read_orders(postgres) == ([], [])


async def test_a_savepoint_that_is_open_at_the_commit_is_refused(
    database: Database, postgres: Connection
) -> None:
    with pytest.raises(NotItsTransaction, match="savepoint"):
        async with database.unit_of_work("place") as uow:
            await uow.connection.begin_nested()
            await insert(uow)
            uow.publish(Placed(order_id="o"))
            await uow.commit()
    assert await read_orders(postgres) == ([], [])


async def test_a_commit_inside_a_savepoint_is_refused(
    database: Database, postgres: Connection
) -> None:
    with pytest.raises(NotItsTransaction, match="savepoint"):
        async with database.unit_of_work("place") as uow, uow.savepoint():
            await insert(uow)
            uow.publish(Placed(order_id="o"))
            await uow.commit()
    assert await read_orders(postgres) == ([], [])


# Each way to end it.

Ending = Callable[[UnitOfWork], Awaitable[object]]


async def commit_the_transaction(uow: UnitOfWork) -> None:
    transaction = uow.connection.get_transaction()
    assert transaction is not None
    await transaction.commit()


async def roll_back_the_transaction(uow: UnitOfWork) -> None:
    transaction = uow.connection.get_transaction()
    assert transaction is not None
    await transaction.rollback()


async def commit_the_driver(uow: UnitOfWork) -> None:
    await (await driver_of(uow)).commit()


async def roll_back_the_driver(uow: UnitOfWork) -> None:
    await (await driver_of(uow)).rollback()


def by_sql(statement: str) -> Ending:
    async def end(uow: UnitOfWork) -> None:
        await uow.connection.execute(text(statement))

    return end


def by_driver_sql(statement: str) -> Ending:
    async def end(uow: UnitOfWork) -> None:
        await (await driver_of(uow)).execute(statement.encode())

    return end


STATEMENTS = [
    "COMMIT",
    "commit work",
    "  End",
    "-- a word\n/* and more */ COMMIT",
    "ROLLBACK",
    "ABORT",
    "COMMIT AND CHAIN",
    "PREPARE TRANSACTION 'x'",
]
ENDINGS: dict[str, Ending] = {
    "connection.commit": lambda uow: uow.connection.commit(),
    "connection.rollback": lambda uow: uow.connection.rollback(),
    "transaction.commit": commit_the_transaction,
    "transaction.rollback": roll_back_the_transaction,
    "driver.commit": commit_the_driver,
    "driver.rollback": roll_back_the_driver,
    **{f"sql {each!r}": by_sql(each) for each in STATEMENTS},
    **{f"driver sql {each!r}": by_driver_sql(each) for each in STATEMENTS},
}


async def left_by(
    database: Database,
    postgres: Connection,
    cause: Envelope | None,
    then: Callable[[UnitOfWork], Awaitable[object]],
) -> dict[str, object]:
    """Return what each unit left that somebody else ended, by the way of ending; empty is right.

    Inside the unit an order is inserted and its event published. Then comes the end, then `then`.
    """
    left: dict[str, object] = {}
    for name, end in ENDINGS.items():
        with pytest.raises((UndoneError, NotItsTransaction)):
            async with database.unit_of_work("place", cause=cause) as uow:
                await insert(uow)
                uow.publish(Placed(order_id="o"))
                await end(uow)
                await then(uow)
        found = (*await read_orders(postgres), await receipts(postgres))
        if found != ([], [], 0):
            left[name] = found
            await postgres.execute("TRUNCATE orders, outbox.messages, outbox.receipts")
    return left


async def test_whoever_ends_the_transaction_keeps_no_row_without_its_event(
    database: Database, postgres: Connection, cause: Envelope | None
) -> None:
    async def fail(_: UnitOfWork) -> None:
        raise UndoneError

    assert await left_by(database, postgres, cause, fail) == {}


async def test_a_unit_whose_transaction_was_ended_keeps_nothing_more(
    database: Database, postgres: Connection, cause: Envelope | None
) -> None:
    assert await left_by(database, postgres, cause, lambda uow: uow.commit()) == {}


async def test_nor_does_it_where_another_transaction_has_begun_in_its_place(
    database: Database, postgres: Connection, cause: Envelope | None
) -> None:
    async def go_on(uow: UnitOfWork) -> None:
        await uow.connection.execute(text("INSERT INTO orders VALUES ('later', 1)"))
        await uow.commit()

    assert await left_by(database, postgres, cause, go_on) == {}


async def test_a_refused_end_that_is_swallowed_ends_the_unit_or_nothing(
    database: Database, postgres: Connection
) -> None:
    """If code catches the refusal and goes on, all of the unit is kept, or nothing of it."""
    for end in ENDINGS.values():
        with suppress(NotItsTransaction):
            async with database.unit_of_work("place") as uow:
                await insert(uow)
                uow.publish(Placed(order_id="o"))
                with suppress(NotItsTransaction):
                    await end(uow)
                await uow.commit()
        rows, events = await read_orders(postgres)
        assert rows == events
        await postgres.execute("TRUNCATE orders, outbox.messages, outbox.streams")


async def test_an_end_by_another_class_of_cursor_is_noticed_before_an_event_is_written(
    database: Database, postgres: Connection
) -> None:
    """Such a cursor is not checked, so this cannot be refused before it is sent."""
    with pytest.raises(NotItsTransaction):
        async with database.unit_of_work("place") as uow:
            async with psycopg.AsyncClientCursor(await driver_of(uow)) as cursor:
                await cursor.execute("SELECT 1; COMMIT")
            await uow.connection.execute(text("SELECT 1"))
            uow.publish(Placed(order_id="o"))
    assert await read_orders(postgres) == ([], [])


async def test_the_connection_of_a_unit_that_was_ended_serves_the_next(
    database: Database, postgres: Connection
) -> None:
    for ending in ENDINGS.values():
        with pytest.raises((UndoneError, NotItsTransaction)):
            async with database.unit_of_work("place") as uow:
                await insert(uow)
                await ending(uow)
                raise UndoneError
    async with database.unit_of_work("place") as uow:
        await insert(uow)
        uow.publish(Placed(order_id="o"))
        await uow.commit()
    assert await read_orders(postgres) == (["o"], ["o"])


@pytest.mark.parametrize("statement", ["ROLLBACK TO s", "rollback work to savepoint s"])
async def test_a_savepoint_by_hand_is_no_end(
    database: Database, postgres: Connection, statement: str
) -> None:
    async with database.unit_of_work("place") as uow:
        await insert(uow)
        await uow.connection.execute(text("SAVEPOINT s"))
        await uow.connection.execute(text("DELETE FROM orders"))
        await uow.connection.execute(text(statement))
        uow.publish(Placed(order_id="o"))
        await uow.commit()
    assert await read_orders(postgres) == (["o"], ["o"])
