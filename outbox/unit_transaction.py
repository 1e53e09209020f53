"""UnitTransaction: the one transaction of a unit of work, and the proof that it is still that one.

A unit gives its connection away: to stores, to an ORM session, to the driver. Any of them can end
the transaction, on purpose or by a default, and the next statement then begins another one without
a word: rows would be kept without their event, or an event without its rows. So a commit by anybody
else is refused before it is sent, and the unit looks, before it publishes and before it commits,
whether the transaction is the one that it began.

Weakness: two statements in one text (`COMMIT; BEGIN`) cannot be told from one.
"""

import re
from collections.abc import Mapping
from typing import Any, Self

from psycopg.abc import Params, PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Transaction
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Session
from sqlalchemy.orm import session as sessions

from outbox.connection import InTransaction
from outbox.connection import Session as PostgresSession

# What ends a transaction; `ROLLBACK TO` a savepoint does not. Comments may stand before it.
ENDS = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
    r"(?:COMMIT|END|ABORT|PREPARE\s+TRANSACTION|ROLLBACK(?!\s+(?:WORK\s+|TRANSACTION\s+)?TO\b))\b",
    re.IGNORECASE | re.DOTALL,
)


class NotItsTransaction(RuntimeError):
    """A unit of work is not in the transaction that it began; nothing of it is kept.

    A mistake in the code that uses the unit: no retry makes it right.
    """

    def __init__(self, name: str, what: str) -> None:
        super().__init__(
            f"unit of work {name}: {what}; only its own commit() keeps anything, once and whole"
        )


class UnitCursor(InTransaction):
    """A cursor through which nobody ends the transaction of a unit."""

    async def execute(self, query: Any, params: Params | None = None, **options: Any) -> Self:
        connection = self._conn
        if isinstance(connection, UnitConnection) and connection.unit and _ends(query):
            raise NotItsTransaction(connection.unit, "a statement was about to end its transaction")
        return await super().execute(query, params, **options)


class UnitConnection(PostgresSession):
    """A connection that knows how many transactions it has begun, and whose it is in."""

    begun = 0
    unit = ""  # the name of the unit that has it, while that is open

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = UnitCursor

    async def commit(self) -> None:
        if self.unit:
            raise NotItsTransaction(self.unit, "somebody else was about to commit")
        await super().commit()

    def hold(self, settings: Mapping[str, str]) -> None:
        super().hold(settings)
        self.cursor_factory = UnitCursor

    def _exec_command(self, command: Any, *arguments: Any, **options: Any) -> PQGen[Any]:
        """psycopg's way to begin a transaction, among others; it tells nobody else of it."""
        if command == self._get_tx_start_command():
            self.begun += 1
        return (yield from super()._exec_command(command, *arguments, **options))


class UnitTransaction:
    """Begun once, on a connection that is in no transaction; SQLAlchemy and the driver agree on it.

    PostgreSQL hears of it with the first statement.
    """

    def __init__(self, name: str, connection: AsyncConnection) -> None:
        self._name = name
        self._connection = connection
        self._transaction: Transaction | None = None
        self._driver: UnitConnection | None = None
        self._begun_before = 0

    async def begin(self) -> None:
        """Take the connection; ORM sessions that come to it later join instead of beginning."""
        self._transaction = (await self._connection.begin()).sync_transaction
        raw = await self._connection.get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, UnitConnection)  # noqa: S101 - narrows the type only
        driver.unit, self._driver, self._begun_before = self._name, driver, driver.begun

    def release(self) -> None:
        """The unit is over: whoever has the connection next may commit."""
        if self._driver is not None:
            self._driver.unit = ""

    def require_same(self) -> None:
        """Raise NotItsTransaction where it was ended, and perhaps followed by another."""
        began, connection = self._transaction, self._connection.sync_connection
        current = connection.get_transaction() if connection is not None else None
        if current is None or current is not began or not current.is_active:
            raise NotItsTransaction(self._name, "its transaction was ended inside of it")
        if not self._is_first():
            raise NotItsTransaction(self._name, "another transaction has begun inside of it")

    def require_whole(self) -> None:
        """The same, and that no savepoint is open, whose rows could still be undone."""
        self.require_same()
        if self._connection.in_nested_transaction():
            raise NotItsTransaction(self._name, "a savepoint is still open")

    async def flush_sessions(self) -> None:
        """Have ORM sessions that stand on this connection write what was added to them.

        A session writes when it is asked to, or before it reads: what waits in it would be missing
        from a transaction that somebody else commits.
        """
        for session in list(sessions._sessions.values()):
            if self._waits_in(session):
                await self._connection.run_sync(_flush, session)

    def _is_first(self) -> bool:
        """Whether at most one transaction has begun, and has not ended."""
        driver = self._driver
        if driver is None:
            return False
        idle = driver.pgconn.transaction_status == TransactionStatus.IDLE
        return driver.begun - self._begun_before == (0 if idle else 1)

    def _waits_in(self, session: Session) -> bool:
        """Whether it holds anything unwritten that would go over this connection."""
        waiting = [*session.new, *session.deleted, *session.dirty]
        sync = self._connection.sync_connection
        return any(_bind_of(session, each) is sync for each in waiting)


def _bind_of(session: Session, instance: object) -> object:
    """What it would be written to; None where the session does not know."""
    try:
        return session.get_bind(type(instance))
    except UnboundExecutionError:
        return None


def _flush(_: Connection, session: Session) -> None:
    session.flush()


def _ends(query: Any) -> bool:
    text = query.decode(errors="replace") if isinstance(query, bytes) else query
    return isinstance(text, str) and ENDS.match(text) is not None
