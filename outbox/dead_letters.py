"""DeadLetters: what a consumer could not apply, with its original bytes, and what waits behind it.

Rows in PostgreSQL, so that they are backed up, counted and repaired like everything else. A letter
is open (dead, waiting, retrying) until it is closed (applied, discarded). A key is parked while it
has open letters; they are due in their order, up to the first dead one.

Why nothing overtakes: only whoever reads a partition opens letters of its keys, one message of a
key at a time, and before each message of a parked key it asks which letter is `first`. All others
only close letters. So an answer that is out of date errs in one direction: a message waits that
need not, and is due at once.
Weakness: where a group's offsets are set back, letters of a key may be redone before its earlier
messages have come again; reactions are fenced against what comes late.
"""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import orjson
import psycopg

from outbox.errors import DependencyDown, translated
from outbox.kafka import Partition, Received
from outbox.settings import Settings

OPEN = "status IN ('dead', 'waiting', 'retrying')"  # as the partial indexes say it

COLUMNS = """
    (consumer, topic, partition, "offset", key, value, headers, timestamp_milliseconds, stream,
     reason, error, attempts, status)
"""
VALUES = """
    %(consumer)s, %(topic)s, %(partition)s, %(offset)s, %(key)s, %(value)s, %(headers)s::jsonb,
    %(timestamp_milliseconds)s, %(stream)s, %(reason)s, %(error)s, %(attempts)s, %(status)s
"""
# A message that is delivered again finds its letter there. An open one stays as it is; so does a
# discarded one, which a person gave up. One that was applied is opened again: this time it failed.
# Another message at the same offset is of a topic that was made anew; only history gives way to it.
AGAIN = """
ON CONFLICT (consumer, topic, partition, "offset") DO UPDATE
SET key = EXCLUDED.key, value = EXCLUDED.value, headers = EXCLUDED.headers,
    timestamp_milliseconds = EXCLUDED.timestamp_milliseconds, stream = EXCLUDED.stream,
    reason = EXCLUDED.reason, error = EXCLUDED.error,
    attempts = EXCLUDED.attempts
             + CASE WHEN letter.status = 'applied' THEN letter.attempts ELSE 0 END,
    status = EXCLUDED.status, closed_at = NULL
WHERE letter.status = 'applied'
   OR (letter.status = 'discarded' AND letter.value IS DISTINCT FROM EXCLUDED.value)
"""
WRITE = f"""
INSERT INTO outbox.dead_letters AS letter {COLUMNS} VALUES ({VALUES}) {AGAIN}
"""  # noqa: S608 - constants
LIST = f"""
SELECT id, consumer, topic, partition, "offset", stream, reason, error, attempts, status,
       created_at::text
FROM outbox.dead_letters
WHERE {OPEN} ORDER BY id LIMIT %s
"""  # noqa: S608 - constants
LISTED = ("id", "consumer", "topic", "partition", "offset", "stream", "reason", "error", "attempts")
PARKED = f"""
SELECT DISTINCT stream FROM outbox.dead_letters
WHERE consumer = %(consumer)s AND stream IS NOT NULL AND {OPEN}
"""  # noqa: S608 - constants

# The first open letter of each parked key, one step in the index a key; then, of keys whose first
# is not dead, the letters up to the next dead one; and those without a key, which wait for nobody.
# Nothing is locked: who reads a partition redoes its letters, and settling one compares its status,
# so that a member which lost the partition without knowing cannot undo what its heir did.
DUE = f"""
WITH RECURSIVE first AS (
    (SELECT stream, status, topic, partition FROM outbox.dead_letters
     WHERE consumer = %(consumer)s AND stream IS NOT NULL AND {OPEN}
     ORDER BY stream, partition, "offset" LIMIT 1)
    UNION ALL
    SELECT following.* FROM first, LATERAL (
        SELECT stream, status, topic, partition FROM outbox.dead_letters
        WHERE consumer = %(consumer)s AND stream > first.stream AND {OPEN}
        ORDER BY stream, partition, "offset" LIMIT 1) AS following
), mine AS (
    SELECT * FROM unnest(%(topics)s::text[], %(partitions)s::integer[]) AS own (topic, partition)
), redoable AS (
    (SELECT stream FROM first JOIN mine USING (topic, partition)
     WHERE status <> 'dead' ORDER BY stream LIMIT %(messages)s)
), letters AS (
    SELECT letter.* FROM redoable, LATERAL (
        SELECT *, bool_or(status = 'dead') OVER (ORDER BY partition, "offset") AS blocked
        FROM (SELECT * FROM outbox.dead_letters
              WHERE consumer = %(consumer)s AND stream = redoable.stream AND {OPEN}
              ORDER BY partition, "offset" LIMIT %(messages)s) AS next) AS letter
    UNION ALL
    (SELECT letter.*, false FROM outbox.dead_letters AS letter JOIN mine USING (topic, partition)
     WHERE consumer = %(consumer)s AND stream IS NULL AND status = 'retrying'
     ORDER BY "offset" LIMIT %(messages)s)
), bounded AS (
    SELECT *, sum(coalesce(length(value), 0)) OVER (ORDER BY topic, partition, "offset") AS bytes
    FROM letters WHERE NOT blocked
)
SELECT id, stream, topic, partition, "offset", key, value, headers, timestamp_milliseconds
FROM bounded WHERE bytes - coalesce(length(value), 0) < %(bytes)s
ORDER BY topic, partition, "offset" LIMIT %(messages)s
"""  # noqa: S608 - constants
# One step in the index. The bytes of a dead letter stay where they are.
FIRST = f"""
SELECT id, stream, topic, partition, "offset", key, CASE WHEN status <> 'dead' THEN value END,
       headers, timestamp_milliseconds, status
FROM outbox.dead_letters
WHERE consumer = %(consumer)s AND stream = %(stream)s AND {OPEN}
ORDER BY partition, "offset" LIMIT 1
"""  # noqa: S608 - constants
# Only what is being redone may change, so of two members that redo it the first one counts. Letters
# of the key are opened by the caller alone; one that a person closes meanwhile counts as open yet.
APPLIED = f"""
WITH applied AS (
    UPDATE outbox.dead_letters SET status = 'applied', closed_at = now()
    WHERE id = %(id)s AND status IN ('retrying', 'waiting') RETURNING id
)
SELECT NOT EXISTS (SELECT FROM outbox.dead_letters
                   WHERE consumer = %(consumer)s AND stream = %(stream)s AND {OPEN}
                     AND id NOT IN (SELECT id FROM applied))
"""  # noqa: S608 - constants
FAILED = """
UPDATE outbox.dead_letters
SET status = 'dead', reason = %(reason)s, error = %(error)s, attempts = attempts + %(attempts)s
WHERE id = %(id)s AND status IN ('retrying', 'waiting')
"""
MAX_ERROR_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message and why it is here. `stream` is the key that it parks, where it parks one.

    `waiting` marks a message that is not broken itself: an earlier one of its key is.
    """

    record: Received
    stream: str | None
    reason: str
    error: str
    attempts: int
    waiting: bool = False


class Retried(NamedTuple):
    """A message out of a letter that is to be applied now; `stream` as in DeadLetter."""

    id: int
    record: Received
    stream: str | None


class First(NamedTuple):
    """The first open letter of a key; None where it is dead, so that a person must act."""

    retried: Retried | None


class DeadLetters:
    """The dead letters of one consumer, over one connection that is made when it is needed.

    DependencyDown where PostgreSQL is away, silent or refuses; then nothing was written, or it was
    and the same call again changes nothing more.
    """

    def __init__(self, settings: Settings, consumer: str) -> None:
        self._settings = settings
        self._consumer = consumer
        self._turn = asyncio.Lock()
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def write(self, letter: DeadLetter) -> None:
        """Durable on return."""
        await self._ask(WRITE, self._parameters(letter))

    async def parked(self) -> set[str]:
        """The keys that have open letters."""
        return {stream for (stream,) in await self._ask(PARKED, {"consumer": self._consumer})}

    async def due(self, partitions: Collection[Partition]) -> list[Retried]:
        """What may be applied now of these partitions, the messages of a key in their order.

        Due is what a person retries, and what waits with no dead letter before it, until it is
        settled. Bounded by `retry_messages` and `retry_bytes`, which the last one may exceed.
        """
        parameters = {
            "consumer": self._consumer,
            "topics": [topic for topic, _ in partitions],
            "partitions": [partition for _, partition in partitions],
            "messages": self._settings.retry_messages,
            "bytes": self._settings.retry_bytes,
        }
        return [_retried(*row) for row in await self._ask(DUE, parameters)]

    async def first(self, stream: str) -> First | None:
        """What comes before anything else of this key; None where it is not parked any more."""
        parameters = {"consumer": self._consumer, "stream": stream}
        for *letter, status in await self._ask(FIRST, parameters):
            return First(None if status == "dead" else _retried(*letter))
        return None

    async def applied(self, retried: Retried) -> bool:
        """It was redone; True where its key has no open letter any more.

        Nothing is changed where another member has found otherwise.
        """
        parameters = {"id": retried.id, "consumer": self._consumer, "stream": retried.stream}
        ((unparked,),) = await self._ask(APPLIED, parameters)
        return bool(unparked)

    async def failed(self, retried: Retried, letter: DeadLetter) -> None:
        """It is dead again, for this letter's reason; its attempts are added, its key waits on."""
        failure = self._parameters(letter)
        names = ("reason", "error", "attempts")
        await self._ask(FAILED, {name: failure[name] for name in names} | {"id": retried.id})

    def _parameters(self, letter: DeadLetter) -> dict[str, Any]:
        record = letter.record
        return {
            "consumer": self._consumer,
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "key": record.key,
            "value": record.value,
            "headers": encode_headers(record.headers),
            "timestamp_milliseconds": record.timestamp_milliseconds,
            "stream": None if letter.stream is None else _storable(letter.stream),
            "reason": _storable(letter.reason),
            "error": _storable(letter.error)[:MAX_ERROR_CHARACTERS],
            "attempts": letter.attempts,
            "status": "waiting" if letter.waiting else "dead",
        }

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _ask(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """The rows; after any error or cancellation the connection is not used again."""
        with translated():
            async with self._turn:
                try:
                    async with asyncio.timeout(self._settings.read_timeout_seconds):
                        return await self._execute(statement, parameters)
                except TimeoutError as error:
                    await self._close()
                    raise DependencyDown("postgres", "silent for too long") from error
                except BaseException:
                    await self._close()
                    raise

    async def _execute(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = await self._connect()
        cursor = await self._connection.execute(statement.encode(), parameters)
        return await cursor.fetchall() if cursor.description else []

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        settings = self._settings
        return await psycopg.AsyncConnection.connect(
            settings.libpq_url(),
            autocommit=True,
            connect_timeout=settings.connect_timeout_seconds,
            application_name=f"aftercommit {self._consumer}",
            prepare_threshold=5 if settings.prepared_statements else None,
        )


def _retried(letter_id: int, stream: str | None, *record: Any) -> Retried:
    topic, partition, offset, key, value, headers, timestamp = record
    decoded = decode_headers(headers)
    return Retried(
        letter_id, Received(topic, partition, offset, key, value, decoded, timestamp), stream
    )


async def list_dead_letters(settings: Settings, limit: int) -> list[dict[str, Any]]:
    """The oldest `limit` letters of all consumers that still need a person, without their bytes."""
    async with await psycopg.AsyncConnection.connect(settings.libpq_url()) as connection:
        rows = await connection.execute(LIST.encode(), [limit])
        names = (*LISTED, "status", "created_at")
        return [dict(zip(names, row, strict=True)) for row in await rows.fetchall()]


def _storable(text: str) -> str:
    """As PostgreSQL takes text: without NUL and lone surrogates, which are shown as escapes."""
    return text.replace("\x00", "\\0").encode(errors="backslashreplace").decode()


def encode_headers(headers: tuple[tuple[str, bytes], ...]) -> str:
    """Headers as JSON that keeps every byte: [[name, base64], ...]."""
    pairs = [[name.replace("\x00", "\\0"), b64encode(raw or b"").decode()] for name, raw in headers]
    return orjson.dumps(pairs).decode()


def decode_headers(pairs: list[list[str]]) -> tuple[tuple[str, bytes], ...]:
    """What `encode_headers` was given, from the column's value."""
    return tuple((name, b64decode(raw)) for name, raw in pairs)
