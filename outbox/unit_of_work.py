"""UnitOfWork: one PostgreSQL transaction that changes rows and says so."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import orjson
import psycopg
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from outbox.errors import AlreadyHandled, rejected
from outbox.failpoints import Failpoint, failpoint, while_waiting
from schemas.envelope import Envelope, Event, digest
from schemas.wire import CONTROL, MAX_KEY_CHARACTERS

log = structlog.get_logger()

MAX_PAYLOAD_BYTES = 900_000
MAX_MESSAGES_PER_KEY = 1_000  # one step of the sequence outbox.positions

# One statement, sent when every row lock of the domain is held. Why it keeps order per key:
# - `heads` upserts each key's head in key order, so two units that share keys cannot deadlock
#   here, and the second waits until the first has ended;
# - the version and the position are drawn in DO UPDATE, after the head is locked. A key's very
#   first position is drawn before its insert, but whoever comes second conflicts, waits, and
#   draws again in DO UPDATE;
# - the messages of one key are numbered upwards to the head's version and position.
# So versions are gapless, and positions of one key rise in commit order.
PUBLISH = """
WITH given AS (
    SELECT *,
           row_number() OVER (PARTITION BY aggregatetype, aggregateid ORDER BY ordinal) AS step,
           count(*) OVER (PARTITION BY aggregatetype, aggregateid) AS steps
    FROM unnest(%b::uuid[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[],
                %b::jsonb[], %b::text[], %b::boolean[])
         WITH ORDINALITY AS message (id, aggregatetype, aggregateid, type, topic, payload,
                                     headers, digest, deletes, ordinal)
), heads AS (
    INSERT INTO outbox.streams AS head
        (aggregatetype, aggregateid, version, position, digest, deleted)
    SELECT aggregatetype, aggregateid, steps, nextval('outbox.positions') + steps - 1,
           digest, deletes
    FROM given
    WHERE step = steps
    ORDER BY aggregatetype COLLATE "C", aggregateid COLLATE "C"
    ON CONFLICT (aggregatetype, aggregateid) DO UPDATE SET
        version  = head.version + EXCLUDED.version,
        position = nextval('outbox.positions') + EXCLUDED.version - 1,
        digest   = EXCLUDED.digest,
        deleted  = EXCLUDED.deleted
    RETURNING aggregatetype, aggregateid, version, position
)
INSERT INTO outbox.messages
    (position, id, aggregatetype, aggregateid, type, version, topic, payload, headers)
SELECT position - steps + step, id, aggregatetype, aggregateid, type, version - steps + step,
       topic, payload, headers
FROM given JOIN heads USING (aggregatetype, aggregateid)
ORDER BY ordinal
RETURNING aggregatetype, aggregateid, version, position
"""

# The receipt is the unit's first insert: a concurrent delivery of the same message waits here
# until this transaction has ended, and then finds the receipt or takes its place.
TAKE_RECEIPT = """
INSERT INTO outbox.receipts (consumer, message_id, digest) VALUES (%b, %b, %b)
ON CONFLICT (consumer, message_id) DO NOTHING
"""
READ_RECEIPT = "SELECT digest, reply FROM outbox.receipts WHERE consumer = %b AND message_id = %b"
SET_REPLY = "UPDATE outbox.receipts SET reply = %b::jsonb WHERE consumer = %b AND message_id = %b"

# What the relay reads and sends must survive a crash of PostgreSQL, whatever the role's default.
DURABLE = "SET LOCAL synchronous_commit = on"


@dataclass(frozen=True, slots=True)
class Published:
    """Where a committed message stands in the outbox."""

    aggregatetype: str
    key: str
    version: int
    position: int


class UnitOfWork:
    """A transaction with a name. Made by `Database.unit_of_work`; used once, by one task.

    Leaving the block without `commit()` rolls everything back, messages included. `publish` only
    collects; the messages are written by `commit`, so one that is too large fails there, whole.
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
        self._log = log.bind(unit_of_work=name, cause=cause.id if cause else None)

    async def __aenter__(self) -> Self:
        self._log.debug("began")
        if self._receipt_of is not None:
            try:
                await self._take_receipt(self._receipt_of)
            except BaseException:
                await self.connection.rollback()
                raise
        failpoint(Failpoint.BEFORE_DOMAIN_WRITE)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        if self._committed:
            return
        await self.connection.rollback()
        self._log.info("rolled back", error=kind.__name__ if kind else "no commit")

    def publish(self, event: Event) -> None:
        """Say `event` in this transaction. MessageRejected where it could never be published."""
        self._require_open()
        _check_key(event.key())
        self._events.append(event)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part that can fail alone: an exception undoes its rows and forgets its messages."""
        kept = len(self._events)
        try:
            async with self.connection.begin_nested():
                yield
        except BaseException:
            del self._events[kept:]
            raise

    async def commit(self, reply: Event | None = None) -> list[Published]:
        """Write the messages, then commit; versions in the order of `publish`.

        `reply` answers the cause: it is published too, and kept in the receipt for whoever
        delivers the same message again.
        """
        self._require_open()
        if reply is not None:
            self.publish(reply)
        failpoint(Failpoint.BEFORE_MESSAGES)
        published = await self._write(reply)
        failpoint(Failpoint.BEFORE_COMMIT)
        await while_waiting(Failpoint.COMMIT_SENT, self.connection.commit())
        self._committed = True
        failpoint(Failpoint.COMMIT_ANSWERED)
        self._log.info("committed", messages=len(published))
        return published

    def _require_open(self) -> None:
        if self._committed:
            raise RuntimeError(f"unit of work {self._name} is committed: it takes nothing more")

    async def _write(self, reply: Event | None) -> list[Published]:
        """Everything in one round trip; an error of any statement is raised at its end."""
        columns = _columns(self._events, self._cause) if self._events else None
        driver = await driver_connection(self.connection)
        async with driver.pipeline():
            await driver.execute(DURABLE)
            if reply is not None and self._receipt_of is not None:
                parameters = [_document(reply), self._consumer, self._receipt_of.id]
                await driver.execute(SET_REPLY, parameters, prepare=True)
            if columns is None:
                return []
            rows = await driver.execute(PUBLISH, columns, prepare=True)
            return [Published(*row) for row in await rows.fetchall()]

    async def _take_receipt(self, cause: Envelope) -> None:
        driver = await driver_connection(self.connection)
        taken = await driver.execute(
            TAKE_RECEIPT, [self._consumer, cause.id, _receipt_digest(cause)]
        )
        if taken.rowcount == 1:
            return
        row = await (await driver.execute(READ_RECEIPT, [self._consumer, cause.id])).fetchone()
        if row is None or row[0] != _receipt_digest(cause):
            raise rejected("id-reused", "id", "was used before with another payload")
        raise AlreadyHandled(cause.id, row[1])


async def driver_connection(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    """The psycopg connection below, inside the transaction that SQLAlchemy has begun."""
    if not connection.in_transaction():
        await connection.begin()
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)  # noqa: S101 - narrows the type only
    return driver


def _document(reply: Event) -> str:
    return orjson.dumps({"type": reply.type, **reply.model_dump(mode="json")}).decode()


def _receipt_digest(cause: Envelope) -> str:
    """Another type with the same payload is another message."""
    return digest(cause.type.encode() + b"\n" + (cause.payload or b""))


def _columns(events: Sequence[Event], cause: Envelope | None) -> list[list[Any]]:
    """The events as PUBLISH takes them: one list a column."""
    payloads = [event.payload() for event in events]
    _check_sizes(events, payloads)
    headers = orjson.dumps(_headers(cause)).decode()
    return [
        [uuid4() for _ in events],
        [event.aggregate for event in events],
        [event.key() for event in events],
        [event.type for event in events],
        [event.topic for event in events],
        [payload.decode() for payload in payloads],
        [headers for _ in events],
        [digest(payload) for payload in payloads],
        [event.deletes for event in events],
    ]


def _headers(cause: Envelope | None) -> dict[str, str]:
    if cause is None:
        return {}
    headers = {"correlationid": cause.correlation_id or cause.id, "causationid": cause.id}
    return headers | ({"traceparent": cause.traceparent} if cause.traceparent else {})


def _check_sizes(events: Sequence[Event], payloads: Sequence[bytes]) -> None:
    """What cannot be published must not commit."""
    if max(map(len, payloads)) > MAX_PAYLOAD_BYTES:
        raise rejected("too-large", "payload", f"at most {MAX_PAYLOAD_BYTES} bytes")
    keys = Counter((event.aggregate, event.key()) for event in events)
    if max(keys.values()) > MAX_MESSAGES_PER_KEY:
        rule = f"at most {MAX_MESSAGES_PER_KEY} of one key in one unit of work"
        raise rejected("too-large", "messages", rule)


def _check_key(key: str) -> None:
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS or CONTROL.search(key):
        rule = f"1 to {MAX_KEY_CHARACTERS} characters, none of them a control character"
        raise rejected("envelope", "key", rule)
