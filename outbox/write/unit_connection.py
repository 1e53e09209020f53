"""UnitConnection: a connection on which only its unit of work ends the transaction.

Whoever else is about to commit or to roll back is refused before anything is sent, whether through
the connection, a cursor, or a text of several statements.

Weakness: a cursor that is made from another class than the connection's own (`AsyncClientCursor`)
is not looked at; what it ends is noticed afterwards.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg._queries import PostgresQuery
from psycopg.abc import Params, PQGen, Query
from psycopg.pq import TransactionStatus

from outbox.postgres.connection import ExplicitTransactionCursor
from outbox.postgres.connection import Session as PostgresSession
from outbox.write.savepoints import Savepoints, ends_transaction, split_statements


class NotItsTransaction(RuntimeError):
    """A unit of work is not in the transaction that it began; nothing of it is kept.

    A mistake in the code that uses the unit: no retry makes it right.
    """

    def __init__(self, name: str, what: str) -> None:
        super().__init__(
            f"unit of work {name}: {what}; only its own commit() keeps anything, once and whole"
        )


class UnitCursor(ExplicitTransactionCursor):
    """A cursor through which nobody ends the transaction of a unit."""

    def _convert_query(self, query: Query, params: Params | None = None) -> PostgresQuery:
        """psycopg's way from what it was given to what it sends, for all that a cursor can do."""
        converted = super()._convert_query(query, params)
        if isinstance(self._conn, UnitConnection):
            self._conn.check_text(converted.query)
        return converted


class UnitConnection(PostgresSession):
    """A connection that knows how many transactions it has begun, and whose it is in."""

    begun = 0
    unit = ""  # the name of the unit that has it, while that is open
    savepoints = Savepoints([])

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = UnitCursor

    async def commit(self) -> None:
        if self.unit:
            raise NotItsTransaction(self.unit, "somebody else was about to commit")
        await super().commit()

    async def set_autocommit(self, value: bool) -> None:
        if self.unit and value:
            raise NotItsTransaction(self.unit, "somebody was about to commit each statement")
        await super().set_autocommit(value)

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[psycopg.AsyncTransaction]:
        """Inside a unit it is a savepoint, also where the unit has sent nothing yet."""
        if self.unit and self.pgconn.transaction_status == TransactionStatus.IDLE:
            await self.execute("")  # psycopg begins
        async with super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction

    def set_in_each_transaction(self, settings: Any) -> None:
        super().set_in_each_transaction(settings)
        self.cursor_factory = UnitCursor

    def check_text(self, text: bytes) -> None:
        """Raise NotItsTransaction where what is about to be sent would end the unit's."""
        if not self.unit:
            return
        for statement in split_statements(text):
            if ends_transaction(statement):
                raise NotItsTransaction(self.unit, "a statement was about to end its transaction")
            self.savepoints.follow(statement)

    def _exec_command(self, command: Any, *arguments: Any, **options: Any) -> PQGen[Any]:
        """psycopg's way to begin a transaction, among others; it tells nobody else of it."""
        if command == self._get_tx_start_command():
            self.begun += 1
        elif self.unit and isinstance(command, bytes):
            self.savepoints.follow(command)
        return (yield from super()._exec_command(command, *arguments, **options))
