"""Database: the connection pool of a service, from which it gets units of work and reads."""

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

# Every role may read this setting, while few may read pg_stat_replication.
WAITS_FOR_STANDBYS = text("SELECT current_setting('synchronous_standby_names') <> ''")
# The probe must write something: the commit of a transaction that has written nothing waits for no
# standby. It writes one row for each service, whose old versions are pruned within its page.
PROBE = text("""
    INSERT INTO outbox.receipts (consumer, message_id, digest) VALUES ('ready', :consumer, '')
    ON CONFLICT (consumer, message_id) DO UPDATE SET handled_at = now()
""")


class Database:
    """The connection pool of one service; receipts are stored under the name `consumer`."""

    def __init__(self, settings: Settings, consumer: str) -> None:
        self.consumer = consumer
        self._settings = settings
        self._engine = _create_engine(settings, consumer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def unit_of_work(
        self, name: str, cause: Envelope | None = None, *, once: bool = True
    ) -> AsyncIterator[UnitOfWork]:
        """Open one transaction, which is rolled back unless the block calls `commit()`.

        With a cause, the cause's receipt is the first insert. If there is a receipt already, it
        raises AlreadyHandled, which carries the first reply, or MessageRejected (`id-reused`)
        where the id came with another payload. With `once=False` the messages name their cause,
        but no receipt is written.
        Errors of PostgreSQL become DependencyDown or Contention (see outbox/errors.py). It raises
        DependencyDown, too, when the block takes longer than `unit_timeout_seconds`: whether it
        was committed is not known then, and delivering the same cause again settles it.
        """
        async with self._connection(self._settings.unit_timeout_seconds, UNKNOWN) as connection:
            uow = UnitOfWork(connection, name, self.consumer, cause, once=once)
            with translate_errors():
                async with uow:
                    yield uow

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection that can only read, and reads everything from one snapshot.

        It raises DependencyDown when the block takes longer than `read_timeout_seconds`.
        """
        async with self._connection(self._settings.read_timeout_seconds) as connection:
            with translate_errors():
                await connection.execute(
                    text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                )
                yield connection

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection for reads, once it is certain that a commit comes to an end.

        This is for readiness checks, which are frequent. It raises DependencyDown when the check
        and the block together take longer than `ready_timeout_seconds`.
        """
        async with Deadline(self._settings.ready_timeout_seconds):
            await self._require_commits()
            async with self.read() as connection:
                yield connection

    async def _require_commits(self) -> None:
        """Commit a probe where a synchronous standby is configured.

        Only a commit shows whether that standby answers.
        """
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
        """Run `work`, and run it again with backoff after each Contention; return its result.

        After `contention_attempts` attempts the last Contention is raised.
        """
        attempts = self._settings.contention_attempts
        async for attempt in stamina.retry_context(on=Contention, attempts=attempts, wait_max=1.0):
            with attempt:
                return await work()
        raise AssertionError("retry_context either returns or raises")

    @asynccontextmanager
    async def _connection(
        self, seconds: float, what_then: str = ""
    ) -> AsyncIterator[AsyncConnection]:
        """Give a connection of the pool; after an outage or the deadline it leaves the pool.

        A session keeps the server's defaults of the moment when it was opened. A limit, or a
        read-only mode, would otherwise go on in the pool after an operator has taken it back.
        """
        async with Deadline(seconds, what_then) as deadline:
            connection = await self._connect()
            is_down = False
            try:
                yield connection
            except DependencyDown as error:
                is_down = error.dependency == "postgres"
                raise
            finally:
                if (deadline.expired or is_down) and not connection.closed:
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
    """Refuse, at each checkout from the pool, a session that the server has ended.

    A server announces the end of a session, and sends hardly anything else unasked. So one look at
    the socket finds out what `pool_pre_ping` asks with a round trip. Without this check, the first
    request after a restart of PostgreSQL would fail with DependencyDown.
    """
    driver = connection.driver_connection
    if driver.closed or is_readable(driver.pgconn.socket):
        raise InvalidatePoolError("the server has ended this session")


def _create_engine(settings: Settings, consumer: str) -> AsyncEngine:
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
