"""Orders: a table, its class of SQLAlchemy, and an event, for tests of who ends a transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import psycopg
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from outbox.settings import Settings
from outbox.write.database import Database
from outbox.write.unit_of_work import UnitOfWork
from schemas.envelope import Event

Connection = psycopg.AsyncConnection[Any]


class Placed(Event):
    type: ClassVar[str] = "test.placed.v1"
    topic: ClassVar[str] = "test.order.events"
    aggregate: ClassVar[str] = "test.order"

    order_id: str

    def key(self) -> str:
        return self.order_id


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[str] = mapped_column(primary_key=True)
    total: Mapped[int] = mapped_column(default=0)


class UndoneError(Exception):
    """This is raised inside a unit."""


@asynccontextmanager
async def open_orders(postgres_url: str, postgres: Connection) -> AsyncIterator[Database]:
    """Make the table, and open a database whose pool has one connection."""
    await postgres.execute("CREATE TABLE orders (id text PRIMARY KEY, total integer NOT NULL)")
    settings = Settings(postgres_url=SecretStr(postgres_url), pool_connections=1)
    async with Database(settings, "tests") as database:
        yield database


async def driver_of(uow: UnitOfWork) -> Connection:
    raw = await uow.connection.get_raw_connection()
    driver = raw.driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    return driver


def session_of(uow: UnitOfWork, **options: Any) -> AsyncSession:
    return AsyncSession(bind=uow.connection, **options)


async def insert(uow: UnitOfWork) -> None:
    await uow.connection.execute(text("INSERT INTO orders VALUES ('o', 1)"))


async def read_orders(connection: Connection) -> tuple[list[str], list[str]]:
    """Return the orders that have a row, and those that have an event."""
    rows = await connection.execute("SELECT id FROM orders ORDER BY 1")
    events = await connection.execute("SELECT aggregateid FROM outbox.messages ORDER BY 1")
    return [row[0] for row in await rows.fetchall()], [row[0] for row in await events.fetchall()]
