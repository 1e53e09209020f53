"""UnitTransaction: the one transaction of a unit of work, and the proof that it is still that one.

A unit gives its connection away: to stores, to an ORM session, to the driver. Any of them can end
the transaction, on purpose or by a default, and the next statement then begins another one without
a word: rows would be kept without their event, or an event without its rows. So an end by anybody
else is refused before it is sent (`outbox.write.unit_connection`), and the unit looks, before it
publishes and before it commits, whether the transaction is the one that it began.
"""

from typing import Any

from psycopg.pq import TransactionStatus
from sqlalchemy import Transaction
from sqlalchemy.ext.asyncio import AsyncConnection

from outbox.write.savepoints import Savepoints
from outbox.write.unit_connection import NotItsTransaction, UnitConnection
from outbox.write.unit_sessions import UnitSessions

__all__ = ["NotItsTransaction", "UnitTransaction"]


class UnitTransaction:
    """Begun once, on a connection that is in no transaction; SQLAlchemy and the driver agree on it.

    PostgreSQL hears of it with the first statement. `said` are the messages that the unit collects;
    those since a savepoint go where that is undone.
    """

    def __init__(self, name: str, connection: AsyncConnection, said: list[Any]) -> None:
        self._name = name
        self._connection = connection
        self._said = said
        self._transaction: Transaction | None = None
        self._driver: UnitConnection | None = None
        self._sessions: UnitSessions | None = None
        self._begun_before = 0

    async def begin(self) -> None:
        """Take the connection; ORM sessions that come to it later join instead of beginning."""
        self._transaction = (await self._connection.begin()).sync_transaction
        raw = await self._connection.get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, UnitConnection)  # noqa: S101 - narrows the type only
        driver.savepoints, self._begun_before = Savepoints(self._said), driver.begun
        self._driver = driver
        sync = self._connection.sync_connection
        assert sync is not None  # noqa: S101 - it has just begun
        self._sessions = UnitSessions(sync, self._said)
        self.guard()

    def guard(self) -> None:
        """From now on nobody else ends a transaction here."""
        if self._driver is not None and self._sessions is not None:
            self._driver.unit = self._name
            self._sessions.follow()

    def release(self) -> None:
        """Whoever has the connection next may commit."""
        if self._driver is not None and self._sessions is not None:
            self._driver.unit = ""
            self._sessions.leave()

    def require_same(self) -> None:
        """Raise NotItsTransaction where it was ended, and perhaps followed by another."""
        began, connection = self._transaction, self._connection.sync_connection
        current = connection.get_transaction() if connection is not None else None
        if current is None or current is not began or not current.is_active:
            raise NotItsTransaction(self._name, "its transaction was ended inside of it")
        if not self._is_first():
            raise NotItsTransaction(self._name, "another transaction has begun inside of it")

    def require_whole(self) -> None:
        """The same, that no savepoint is open, whose rows could still be undone, and that all that
        sessions were given is written."""
        self.require_same()
        if self._connection.in_nested_transaction():
            raise NotItsTransaction(self._name, "a savepoint is still open")
        if self._sessions is not None and self._sessions.dropped:
            raise NotItsTransaction(
                self._name, "a session was closed, or let go of an object, before it had written it"
            )

    async def flush_sessions(self) -> None:
        """Have ORM sessions that stand on this connection write what was added to them."""
        if self._sessions is not None:
            await self._connection.run_sync(lambda _, sessions: sessions.flush(), self._sessions)

    async def forget_unwritten(self) -> None:
        """What was added to sessions since the last flush is not to be written."""
        if self._sessions is not None:
            await self._connection.run_sync(lambda _, sessions: sessions.forget(), self._sessions)

    def _is_first(self) -> bool:
        """Whether at most one transaction has begun, and has not ended."""
        driver = self._driver
        if driver is None:
            return False
        idle = driver.pgconn.transaction_status == TransactionStatus.IDLE
        return driver.begun - self._begun_before == (0 if idle else 1)
