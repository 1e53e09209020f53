"""A service's way to its database: a pool, units of work, and reads."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import stamina
from sqlalchemy import event, text
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from outbox.errors import Contention, DependencyDown, translate_errors
from outbox.postgres.connection import connect_service
from outbox.postgres.deadline import Deadline
from outbox.postgres.pipeline import is_readable
from outbox.settings import Settings
from outbox.write.unit_connection import UnitConnection
from outbox.write.unit_of_work import UnitOfWork
from schemas.envelope import Envelope

T = TypeVar("T")

UNKNOWN = "; whether it was committed is not known, and the same command again settles it"

# Everybody may read these settings, and hardly anybody pg_stat_replication. What is written must be
# worth waiting for: a transaction that has written nothing waits for no standby. It is one row of
# each service, whose old versions are pruned within its page.
WAITS_FOR_STANDBYS = text("SELECT current_setting('synchronous_standby_names') <> ''")
PROBE = text("""
    INSERT INTO outbox.receipts (consumer, message_id, digest) VALUES ('ready', :consumer, '')
    ON CONFLICT (consumer, message_id) DO UPDATE SET handled_at = now()
""")


class Database:
    """A connection pool of one service; `consumer` is the name under which it keeps receipts."""

    def __init__(self, settings: Settings, consumer: str) -> None:
        self.consumer = consumer
        self._settings = settings
        self._engine = _engine(settings, consumer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def unit_of_work(
        self, name: str, cause: Envelope | None = None, *, once: bool = True
    ) -> AsyncIterator[UnitOfWork]:
        """One transaction; nothing is kept without `commit()`.

        With a cause, its receipt is the first insert: AlreadyHandled carries the reply of the
        first time, MessageRejected (`id-reused`) says that the id came with another payload. With
        `once=False` the cause is named in the messages, and leaves no receipt.
        Raises DependencyDown and Contention as the tree in errors.py says. Where it takes longer
        than `unit_timeout_seconds`, DependencyDown: it was committed or it was not, and the same
        cause again settles it.
        """
        async with self._connection(self._settings.unit_timeout_seconds, UNKNOWN) as connection:
            uow = UnitOfWork(connection, name, self.consumer, cause, once=once)
            with translate_errors():
                async with uow:
                    yield uow

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reads: one snapshot for all of them, and nothing can be written.

        DependencyDown where they take longer than `read_timeout_seconds`.
        """
        async with self._connection(self._settings.read_timeout_seconds) as connection:
            with translate_errors():
                await connection.execute(
                    text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                )
                yield connection

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reads, where commits come to an end, too; for what asks all the time.

        DependencyDown where all of it takes longer than `ready_timeout_seconds`.
        """
        async with Deadline(self._settings.ready_timeout_seconds):
            await self._require_commits()
            async with self.read() as connection:
                yield connection

    async def _require_commits(self) -> None:
        """Only a commit tells whether a synchronous standby answers; without one, none is made."""
        seconds = self._settings.ready_timeout_seconds
        async with self._connection(seconds, UNKNOWN) as connection:
            with translate_errors():
                if not (await connection.execute(WAITS_FOR_STANDBYS)).scalar_one():
                    return
                await connection.rollback()  # a unit begins its own transaction
                async with UnitOfWork(connection, "ready", self.consumer, None) as uow:
                    await connection.execute(PROBE, {"consumer": self.consumer})
                    await uow.commit()

    async def retry_on_contention(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a unit of work again, with backoff, while PostgreSQL picks it as the victim."""
        attempts = self._settings.contention_attempts
        async for attempt in stamina.retry_context(on=Contention, attempts=attempts, wait_max=1.0):
            with attempt:
                return await work()
        raise AssertionError("retry_context either returns or raises")

    @asynccontextmanager
    async def _connection(self, seconds: float, late: str = "") -> AsyncIterator[AsyncConnection]:
        """One of the pool's; after an outage, as after the deadline, nobody gets it again.

        Its session keeps the defaults that it was opened with: a limit, or being read-only, would
        last in the pool after somebody has taken it back.
        """
        async with Deadline(seconds, late) as deadline:
            connection = await self._connect()
            away = False
            try:
                yield connection
            except DependencyDown as error:
                away = error.dependency == "postgres"
                raise
            finally:
                if (deadline.expired or away) and not connection.closed:
                    await connection.invalidate()
                await connection.close()

    async def _connect(self) -> AsyncConnection:
        try:
            with translate_errors():
                return await self._engine.connect()
        except DependencyDown as error:
            if isinstance(error.__cause__, PoolTimeout):
                raise DependencyDown(
                    "postgres", "all connections of the pool are in use"
                ) from error
            raise


def _refuse_ended(connection: Any, *_: object) -> None:
    """At each checkout: a server that ends a session says so, and hardly anything else unasked.

    One look at the socket finds out what `pool_pre_ping` asks with a round trip. Otherwise the
    first request after a restart of PostgreSQL would be told that it is down.
    """
    driver = connection.driver_connection
    if driver.closed or is_readable(driver.pgconn.socket):
        raise InvalidatePoolError("the server has ended this session")


def _engine(settings: Settings, consumer: str) -> AsyncEngine:
    engine = create_async_engine(
        "postgresql+psycopg://",
        async_creator=lambda: connect_service(settings, consumer, UnitConnection),
        pool_size=settings.pool_connections,
        max_overflow=0,
        pool_timeout=settings.pool_timeout_seconds,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "checkout", _refuse_ended)
    return engine
