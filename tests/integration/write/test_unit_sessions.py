"""FA4: sessions, savepoints and cursors on a unit's connection keep rows and events together."""

import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from outbox.write.database import Database
from outbox.write.unit_of_work import UnitOfWork
from outbox.write.unit_transaction import NotItsTransaction
from tests.kit.orders import Order, Placed, UndoneError, driver_of, insert, read_orders, session_of

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection[Any]


def place(uow: UnitOfWork) -> None:
    uow.publish(Placed(order_id="o"))


# Sessions that are gone before the unit commits.


async def test_what_a_forgotten_session_holds_is_written(
    database: Database, postgres: Connection
) -> None:
    def add(uow: UnitOfWork) -> None:
        session_of(uow).add(Order(id="o"))

    async with database.unit_of_work("place") as uow:
        add(uow)
        gc.collect()
        place(uow)
        await uow.commit()
    assert await read_orders(postgres) == (["o"], ["o"])


async def test_what_was_changed_in_a_forgotten_session_is_written(
    database: Database, postgres: Connection
) -> None:
    async def change(uow: UnitOfWork) -> None:
        order = await session_of(uow).get(Order, "o")
        assert order is not None
        order.total = 2

    await postgres.execute("INSERT INTO orders VALUES ('o', 1)")
    async with database.unit_of_work("change") as uow:
        await change(uow)
        gc.collect()
        place(uow)
        await uow.commit()
    assert await (await postgres.execute("SELECT total FROM orders")).fetchone() == (2,)


async def test_a_session_that_was_closed_before_it_wrote_ends_the_unit(
    database: Database, postgres: Connection
) -> None:
    """Its rows are lost, so their event must not be published either."""
    with pytest.raises(NotItsTransaction, match="before it had written"):
        async with database.unit_of_work("place") as uow:
            async with session_of(uow) as session:
                session.add(Order(id="o"))
                place(uow)
            await uow.commit()
    assert await read_orders(postgres) == ([], [])


async def test_a_session_that_was_closed_after_it_wrote_is_kept(
    database: Database, postgres: Connection
) -> None:
    async with database.unit_of_work("place") as uow:
        async with session_of(uow) as session, session.begin():
            session.add(Order(id="o"))
        place(uow)
        await uow.commit()
    assert await read_orders(postgres) == (["o"], ["o"])


# Savepoints, whoever sets them.


async def undone_by_the_session(uow: UnitOfWork) -> None:
    session: AsyncSession = session_of(uow)
    with suppress(UndoneError):
        async with session.begin_nested():
            session.add(Order(id="o"))
            place(uow)
            raise UndoneError


async def undone_by_the_connection(uow: UnitOfWork) -> None:
    with suppress(UndoneError):
        async with uow.connection.begin_nested():
            await insert(uow)
            place(uow)
            raise UndoneError


async def undone_by_the_driver(uow: UnitOfWork) -> None:
    with suppress(UndoneError):
        async with (await driver_of(uow)).transaction():
            await insert(uow)
            place(uow)
            raise UndoneError


async def undone_by_sql(uow: UnitOfWork) -> None:
    await uow.connection.execute(text("SAVEPOINT s"))
    await insert(uow)
    place(uow)
    await uow.connection.execute(text("ROLLBACK TO s"))


async def undone_before_it_was_written(uow: UnitOfWork) -> None:
    session = session_of(uow)
    with suppress(UndoneError):
        async with uow.savepoint():
            session.add(Order(id="o"))
            place(uow)
            raise UndoneError


@pytest.mark.parametrize(
    "undo",
    [
        undone_by_the_session,
        undone_by_the_connection,
        undone_by_the_driver,
        undone_by_sql,
        undone_before_it_was_written,
    ],
)
async def test_what_is_rolled_back_to_any_savepoint_is_never_published(
    database: Database, postgres: Connection, undo: Callable[[UnitOfWork], Awaitable[None]]
) -> None:
    async with database.unit_of_work("place") as uow:
        await undo(uow)
        uow.publish(Placed(order_id="after"))
        await uow.commit()
    assert await read_orders(postgres) == ([], ["after"])


async def test_a_change_that_waits_in_a_session_goes_with_its_savepoint(
    database: Database, postgres: Connection
) -> None:
    async with database.unit_of_work("place") as uow:
        session = session_of(uow)
        order = Order(id="o", total=1)
        session.add(order)
        place(uow)
        with suppress(UndoneError):
            async with uow.savepoint():
                order.total = 7
                raise UndoneError
        await uow.commit()
    assert await (await postgres.execute("SELECT id, total FROM orders")).fetchall() == [("o", 1)]


# Ways around the connection and its own cursor.


async def by_a_transaction_of_the_driver(uow: UnitOfWork) -> None:
    driver = await driver_of(uow)
    async with driver.transaction():
        await driver.execute("INSERT INTO orders VALUES ('o', 1)")


async def by_autocommit(uow: UnitOfWork) -> None:
    await (await driver_of(uow)).set_autocommit(True)
    await insert(uow)


async def by_composed_sql(uow: UnitOfWork) -> None:
    await insert(uow)
    await (await driver_of(uow)).execute(SQL("COMMIT"))


async def by_several_statements(uow: UnitOfWork) -> None:
    await uow.connection.execute(text("INSERT INTO orders VALUES ('o', 1); COMMIT"))


async def by_executemany(uow: UnitOfWork) -> None:
    await insert(uow)
    async with (await driver_of(uow)).cursor() as cursor:
        await cursor.executemany("COMMIT", [()])


async def by_stream(uow: UnitOfWork) -> None:
    await insert(uow)
    async with (await driver_of(uow)).cursor() as cursor:
        async for _ in cursor.stream("COMMIT"):
            pass


@pytest.mark.parametrize(
    "end",
    [
        by_a_transaction_of_the_driver,
        by_autocommit,
        by_composed_sql,
        by_several_statements,
        by_executemany,
        by_stream,
    ],
)
async def test_no_row_is_kept_without_its_event_by_any_way_of_the_driver(
    database: Database, postgres: Connection, end: Callable[[UnitOfWork], Awaitable[None]]
) -> None:
    with pytest.raises((UndoneError, NotItsTransaction)):
        async with database.unit_of_work("place") as uow:
            place(uow)
            await end(uow)
            raise UndoneError
    assert await read_orders(postgres) == ([], [])
    async with database.unit_of_work("place") as uow:  # on the same connection
        await insert(uow)
    assert await read_orders(postgres) == ([], [])


async def test_a_transaction_of_the_driver_is_a_part_of_the_unit(
    database: Database, postgres: Connection
) -> None:
    async with database.unit_of_work("place") as uow:
        await by_a_transaction_of_the_driver(uow)
        place(uow)
        await uow.commit()
    assert await read_orders(postgres) == (["o"], ["o"])


async def test_nothing_is_committed_behind_the_unit(
    database: Database, postgres: Connection
) -> None:
    with pytest.raises(NotItsTransaction):
        async with database.unit_of_work("place") as uow:
            place(uow)
            await uow.commit()
            await insert(uow)
            await uow.connection.commit()
    assert await read_orders(postgres) == ([], ["o"])
