"""UnitTransaction: the one transaction of a unit of work, and the check that it is still the same.

A unit hands its connection to others: to stores, to an ORM session, to the driver. Each of them can
end the transaction, on purpose or by a default, and the next statement then silently begins another
one. Rows would be kept without their event, or an event without its rows. So nobody else may end
the transaction: that is refused before it is sent (`outbox.write.unit_connection`). Besides, the
unit checks, before it publishes and before it commits, that the transaction is the one it began.
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
    """A transaction that is begun once, on a connection that is in no transaction yet.

    SQLAlchemy and the driver begin it together, and PostgreSQL hears of it with the first
    statement. `messages` is the unit's list of collected messages: where a savepoint is undone,
    the messages since then are removed from it.
    """

    def __init__(self, name: str, connection: AsyncConnection, messages: list[Any]) -> None:
        self._name = name
        self._connection = connection
        self._messages = messages
        self._transaction: Transaction | None = None
        self._driver: UnitConnection | None = None
        self._sessions: UnitSessions | None = None
        self._begun_before = 0

    async def begin(self) -> None:
        """Begin it. ORM sessions that use the connection later join it and begin none."""
        self._transaction = (await self._connection.begin()).sync_transaction
        raw = await self._connection.get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, UnitConnection)  # noqa: S101 - narrows the type only
        driver.savepoints, self._begun_before = Savepoints(self._messages), driver.begun
        self._driver = driver
        sync = self._connection.sync_connection
        assert sync is not None  # noqa: S101 - it has just begun
        self._sessions = UnitSessions(sync, self._messages)
        self.guard()

    def guard(self) -> None:
        """From now on nobody else can end a transaction on this connection."""
        if self._driver is not None and self._sessions is not None:
            self._driver.unit = self._name
            self._sessions.register()

    def release(self) -> None:
        """Let the next user of the connection commit."""
        if self._driver is not None and self._sessions is not None:
            self._driver.unit = ""
            self._sessions.unregister()

    def require_same(self) -> None:
        """Raise NotItsTransaction where the transaction was ended, or followed by another one."""
        began, connection = self._transaction, self._connection.sync_connection
        current = connection.get_transaction() if connection is not None else None
        if current is None or current is not began or not current.is_active:
            raise NotItsTransaction(self._name, "its transaction was ended inside of it")
        if not self._is_first():
            raise NotItsTransaction(self._name, "another transaction has begun inside of it")

    def require_whole(self) -> None:
        """Raise NotItsTransaction unless it is the same transaction and can be committed whole.

        No savepoint may be open, because its rows could still be undone, and no ORM session may
        have dropped an object before writing it.
        """
        self.require_same()
        if self._connection.in_nested_transaction():
            raise NotItsTransaction(self._name, "a savepoint is still open")
        if self._sessions is not None and self._sessions.dropped:
            raise NotItsTransaction(
                self._name, "a session was closed, or let go of an object, before it had written it"
            )

    async def flush_sessions(self) -> None:
        """Have the ORM sessions on this connection write what was added to them."""
        if self._sessions is not None:
            await self._connection.run_sync(lambda _, sessions: sessions.flush(), self._sessions)

    async def drop_unwritten(self) -> None:
        """Have the ORM sessions drop what was added to them since the last flush."""
        if self._sessions is not None:
            await self._connection.run_sync(
                lambda _, sessions: sessions.drop_unwritten(), self._sessions
            )

    def _is_first(self) -> bool:
        """Return whether at most one transaction has begun, and has not ended."""
        driver = self._driver
        if driver is None:
            return False
        idle = driver.pgconn.transaction_status == TransactionStatus.IDLE
        return driver.begun - self._begun_before == (0 if idle else 1)
