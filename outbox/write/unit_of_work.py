"""UnitOfWork: one PostgreSQL transaction that changes rows and publishes messages about it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import orjson
import psycopg
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from outbox.errors import AlreadyHandled, build_rejection
from outbox.postgres.pipeline import COMMIT, Request, Rows, Statement, execute_at_once
from outbox.runtime.failpoints import Failpoint, armed, failpoint, while_waiting
from outbox.write.publishing import Published, build_publish_request, check_key, read_published
from outbox.write.unit_transaction import UnitTransaction
from schemas.envelope import Envelope, Event, digest
from schemas.reply import render_reply

log = structlog.get_logger()

# The receipt is the unit's first insert: a concurrent delivery of the same message waits here
# until this transaction has ended, and then finds the receipt or takes its place.
TAKE_RECEIPT = """
INSERT INTO outbox.receipts (consumer, message_id, digest) VALUES (%b, %b, %b)
ON CONFLICT (consumer, message_id) DO NOTHING
"""
READ_RECEIPT = "SELECT digest, reply FROM outbox.receipts WHERE consumer = %b AND message_id = %b"
SET_REPLY = Statement.of("""
UPDATE outbox.receipts SET reply = %(reply)b::json
WHERE consumer = %(consumer)b AND message_id = %(message_id)b
""")

# What was answered must survive a crash of PostgreSQL, whatever the role's default is. Only a unit
# without messages needs this statement; the one that publishes messages sets it by itself.
DURABLE = Request(Statement.of("SET LOCAL synchronous_commit = on"))


class UnitOfWork:
    """A transaction with a name, made by `Database.unit_of_work` and used once, by one task.

    Leaving the block without `commit()` rolls everything back, messages included. `publish` only
    collects messages, and `commit` writes them. So a unit with a message that is too large fails
    in `commit`, as a whole.

    An ORM session may use its `connection` (`AsyncSession(bind=uow.connection)`): `commit` has the
    session write what was added to it. If anybody else ends the transaction, for example by the
    session's rollback, the unit has ended: it raises NotItsTransaction, and nothing is kept.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        name: str,
        consumer: str,
        cause: Envelope | None,
        *,
        once: bool = True,
    ) -> None:
        self.connection = connection
        self._name = name
        self._consumer = consumer
        self._cause = cause
        self._receipt_of = cause if once else None
        self._events: list[Event] = []
        self._committed = False
        self._transaction = UnitTransaction(name, connection, self._events)
        self._log = log.bind(unit_of_work=name, cause=cause.id if cause else None)

    async def __aenter__(self) -> Self:
        self._log.debug("began")
        await self._transaction.begin()
        if self._receipt_of is not None:
            try:
                await self._take_receipt(self._receipt_of)
            except BaseException:
                await self._roll_back()
                raise
        failpoint(Failpoint.BEFORE_DOMAIN_WRITE)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        await self._roll_back()
        if self._committed:
            return
        self._log.info("rolled back", error=kind.__name__ if kind else "no commit")

    def publish(self, event: Event) -> None:
        """Publish `event` when this transaction commits.

        It raises MessageRejected where the event's key allows no record. `commit` checks the rest.
        """
        self._require_open()
        check_key(event.key())
        self._events.append(event)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Open a part that can fail alone: an exception undoes its rows and drops its messages.

        Any other way to go back to a savepoint does the same.
        """
        await self._transaction.flush_sessions()
        try:
            async with self.connection.begin_nested():
                yield
        except BaseException:
            await self._transaction.drop_unwritten()
            raise

    async def commit(self, reply: Event | None = None) -> list[Published]:
        """Write the messages and commit; return each message's place, in the order of `publish`.

        `reply` answers the cause. It is published too, and stored in the receipt, so that a second
        delivery of the same cause gets the same answer. It raises MessageRejected for a message
        that could never be sent, and NotItsTransaction where the transaction is not its own.
        """
        self._require_open()
        await self._transaction.flush_sessions()
        self._transaction.require_whole()
        if reply is not None:
            self.publish(reply)
        failpoint(Failpoint.BEFORE_MESSAGES)
        rows = await self._write_and_commit(self._build_requests(reply))
        self._transaction.release()
        await self.connection.commit()  # for SQLAlchemy's state only: PostgreSQL has committed
        self._transaction.guard()  # what is written from here on has no message, and is not kept
        self._committed = True
        failpoint(Failpoint.COMMIT_ANSWERED)
        self._log.info("committed", messages=len(self._events))
        return read_published(self._events, rows)

    def _require_open(self) -> None:
        if self._committed:
            raise RuntimeError(f"unit of work {self._name} is committed: it takes nothing more")
        self._transaction.require_same()

    async def _roll_back(self) -> None:
        self._transaction.release()
        await self.connection.rollback()

    def _build_requests(self, reply: Event | None) -> list[Request]:
        """Return the requests before the COMMIT; the last one returns the rows of the messages."""
        requests = []
        if reply is not None and self._receipt_of is not None:
            receipt = {"consumer": self._consumer, "message_id": self._receipt_of.id}
            answer = {"reply": orjson.dumps(render_reply(reply)).decode()}
            requests.append(Request(SET_REPLY, receipt | answer))
        return [
            *requests,
            build_publish_request(self._events, self._cause) if self._events else DURABLE,
        ]

    async def _write_and_commit(self, requests: list[Request]) -> Rows:
        """Send all of it in one round trip, unless a test stops between the messages and COMMIT."""
        driver = await driver_connection(self.connection)
        if armed(Failpoint.BEFORE_COMMIT):
            rows = (await execute_at_once(driver, requests))[-1]
            failpoint(Failpoint.BEFORE_COMMIT)
            await execute_at_once(driver, [COMMIT])
            return rows
        answering = execute_at_once(driver, [*requests, COMMIT])
        return (await while_waiting(Failpoint.COMMIT_SENT, answering))[-2]

    async def _take_receipt(self, cause: Envelope) -> None:
        driver = await driver_connection(self.connection)
        taken = await driver.execute(
            TAKE_RECEIPT, [self._consumer, cause.id, _receipt_digest(cause)]
        )
        if taken.rowcount == 1:
            return
        row = await (await driver.execute(READ_RECEIPT, [self._consumer, cause.id])).fetchone()
        if row is None or row[0] != _receipt_digest(cause):
            raise build_rejection("id-reused", "id", "was used before with another payload")
        raise AlreadyHandled(cause.id, row[1])


async def driver_connection(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    """Return the psycopg connection below, inside the transaction that SQLAlchemy has begun."""
    if not connection.in_transaction():
        await connection.begin()
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)  # noqa: S101 - narrows the type only
    return driver


def _receipt_digest(cause: Envelope) -> str:
    """Digest the type, too: another type with the same payload is another message."""
    return digest(cause.type.encode() + b"\n" + (cause.payload or b""))
