"""UnitConnection: a connection on which only its unit of work may end the transaction.

A commit or rollback by anybody else is refused before it is sent, whether it comes through the
connection, through a cursor, or in a text of several statements.

Weakness: a cursor of another class than the connection's own (`AsyncClientCursor`) is not checked.
If it ends the transaction, the unit notices that only afterwards.
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
    """The unit of work is no longer in the transaction that it began, and keeps nothing of it.

    This is a mistake in the code that uses the unit, so a retry does not help.
    """

    def __init__(self, name: str, what: str) -> None:
        super().__init__(
            f"unit of work {name}: {what}; only its own commit() keeps anything, once and whole"
        )


class UnitCursor(ExplicitTransactionCursor):
    """A cursor that refuses statements which would end the transaction of a unit."""

    def _convert_query(self, query: Query, params: Params | None = None) -> PostgresQuery:
        """Check each statement here, because psycopg converts all that any cursor sends here."""
        converted = super()._convert_query(query, params)
        if isinstance(self._conn, UnitConnection):
            self._conn.check_text(converted.query)
        return converted


class UnitConnection(PostgresSession):
    """A connection that counts the transactions it has begun, and knows which unit uses it."""

    begun = 0
    unit = ""  # the name of the unit that uses it, while that unit is open
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
        """Begin a transaction. Inside a unit it is a savepoint, even before the first statement."""
        if self.unit and self.pgconn.transaction_status == TransactionStatus.IDLE:
            await self.execute("")  # makes psycopg send its BEGIN
        async with super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction

    def set_in_each_transaction(self, settings: Any) -> None:
        super().set_in_each_transaction(settings)
        self.cursor_factory = UnitCursor

    def check_text(self, text: bytes) -> None:
        """Raise NotItsTransaction where this text would end the transaction of the unit."""
        if not self.unit:
            return
        for statement in split_statements(text):
            if ends_transaction(statement):
                raise NotItsTransaction(self.unit, "a statement was about to end its transaction")
            self.savepoints.follow(statement)

    def _exec_command(self, command: Any, *arguments: Any, **options: Any) -> PQGen[Any]:
        """Count each BEGIN, and follow the savepoints, that psycopg sends by itself.

        They come through this method and through no other.
        """
        if command == self._get_tx_start_command():
            self.begun += 1
        elif self.unit and isinstance(command, bytes):
            self.savepoints.follow(command)
        return (yield from super()._exec_command(command, *arguments, **options))
