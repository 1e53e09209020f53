"""DeadLetters: what a consumer could not apply, with its original bytes, and what waits behind it.

Letters are rows in PostgreSQL, so they are backed up, counted and repaired like everything else. A
letter is open (dead, waiting, retrying) until it is closed (applied, discarded). A key is parked
while it has open letters. Its letters are due in their order, up to the first dead one.

Why no message overtakes another one of its key: only the member that reads a partition opens
letters of its keys, one message of a key at a time, and before each message of a parked key it asks
which letter is `first`. All others only close letters. So an answer that is out of date errs in one
direction only: a message waits although it need not, and is due at once.
Weakness: if the offsets of a group are set back, letters of a key may be redelivered before its
earlier messages have come again; reactions are fenced against what comes late.
"""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import orjson
import psycopg

from outbox.errors import DependencyDown, SchemaBehind, translate_errors
from outbox.kafka import ConsumerRecord, Partition
from outbox.postgres.connection import connect
from outbox.postgres.sql_file import read_statements
from outbox.settings import Settings

SQL = read_statements(__file__)

MAX_ERROR_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message and why it could not be applied.

    `stream` is the key that it parks, or None if it parks none. `waiting` marks a message that is
    not broken itself: an earlier one of its key is.
    """

    record: ConsumerRecord
    stream: str | None
    reason: str
    error: str
    attempts: int
    waiting: bool = False


class Retried(NamedTuple):
    """The message of a letter that is to be applied now.

    `id` is the letter's. `stream` is the key that it parks, or None if it parks none.
    """

    id: int
    record: ConsumerRecord
    stream: str | None


class FirstLetter(NamedTuple):
    """The first open letter of a key; `retried` is None if it is dead and an operator must act."""

    retried: Retried | None


class DeadLetters:
    """The dead letters of one consumer, over one connection that is opened when it is needed.

    Every method raises DependencyDown if PostgreSQL is away, silent or refuses. Then nothing was
    written, or it was written and the same call again changes nothing more. It raises SchemaBehind
    if migrations are missing.
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

    async def write(self, letter: DeadLetter) -> int | None:
        """Write a letter, durable on return, and return its id.

        None if another process has written the same letter in the same moment.
        """
        rows = await self._ask(SQL["write"], self._parameters(letter))
        return int(rows[0][0]) if rows else None

    async def read_parked(self) -> set[str]:
        """The streams of all keys that have open letters."""
        return {
            stream for (stream,) in await self._ask(SQL["parked"], {"consumer": self._consumer})
        }

    async def due(self, partitions: Collection[Partition]) -> list[Retried]:
        """What may be applied now of these partitions, the messages of a key in their order.

        A letter is due until it is settled if an operator retries it, or if it waits and no dead
        letter is before it. The answer is bounded by the settings `retry_messages` and
        `retry_bytes`; the last message may exceed the bytes.
        """
        parameters = {
            "consumer": self._consumer,
            "topics": [topic for topic, _ in partitions],
            "partitions": [partition for _, partition in partitions],
            "messages": self._settings.retry_messages,
            "bytes": self._settings.retry_bytes,
        }
        return [_read_retried(*row) for row in await self._ask(SQL["due"], parameters)]

    async def first(self, stream: str) -> FirstLetter | None:
        """What comes before anything else of this key; None if it is not parked any more."""
        parameters = {"consumer": self._consumer, "stream": stream}
        for *letter, status in await self._ask(SQL["first"], parameters):
            return FirstLetter(None if status == "dead" else _read_retried(*letter))
        return None

    async def mark_applied(self, retried: Retried) -> bool:
        """Close a letter that was applied; True if its key has no open letter any more.

        It changes nothing if another member has settled the letter before.
        """
        parameters = {"id": retried.id, "consumer": self._consumer, "stream": retried.stream}
        ((unparked,),) = await self._ask(SQL["applied"], parameters)
        return bool(unparked)

    async def mark_failed(self, retried: Retried, letter: DeadLetter) -> None:
        """Make it dead again for the reason in `letter`; its attempts are added up.

        Its key stays parked. It changes nothing if another member has settled the letter before.
        """
        failure = self._parameters(letter)
        names = ("reason", "error", "attempts")
        await self._ask(SQL["failed"], {name: failure[name] for name in names} | {"id": retried.id})

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
            "stream": None if letter.stream is None else _make_storable(letter.stream),
            "reason": _make_storable(letter.reason),
            "error": _make_storable(letter.error)[:MAX_ERROR_CHARACTERS],
            "attempts": letter.attempts,
            "status": "waiting" if letter.waiting else "dead",
        }

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _ask(self, statement: bytes, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Return the rows; after any error or cancellation the connection is not used again."""
        with translate_errors():
            async with self._turn:
                try:
                    async with asyncio.timeout(self._settings.read_timeout_seconds):
                        return await self._execute(statement, parameters)
                except TimeoutError as error:
                    await self._close()
                    raise DependencyDown("postgres", "silent for too long") from error
                except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedTable) as error:
                    await self._close()
                    what = error.diag.message_primary
                    raise SchemaBehind(f"{what}; run `python -m services migrate`") from error
                except BaseException:
                    await self._close()
                    raise

    async def _execute(self, statement: bytes, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = await self._connect()
        cursor = await self._connection.execute(statement, parameters)
        return await cursor.fetchall() if cursor.description else []

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        settings = self._settings
        return await connect(settings, self._consumer, prepared=settings.prepared_statements)


def _read_retried(letter_id: int, stream: str | None, *record: Any) -> Retried:
    topic, partition, offset, key, value, headers, timestamp = record
    decoded = decode_headers(headers)
    return Retried(
        letter_id, ConsumerRecord(topic, partition, offset, key, value, decoded, timestamp), stream
    )


def _make_storable(text: str) -> str:
    """Write NUL and lone surrogates, which PostgreSQL's text does not take, as escapes."""
    return text.replace("\x00", "\\0").encode(errors="backslashreplace").decode()


def encode_headers(headers: tuple[tuple[str, bytes], ...]) -> str:
    """Return headers as JSON that keeps every byte: [[name, base64], ...]."""
    pairs = [[name.replace("\x00", "\\0"), b64encode(raw or b"").decode()] for name, raw in headers]
    return orjson.dumps(pairs).decode()


def decode_headers(pairs: list[list[str]]) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that `encode_headers` was given, from the value of the column."""
    return tuple((name, b64decode(raw)) for name, raw in pairs)
