"""DeadLetters: what a consumer could not apply, with its original bytes, and what waits behind it.

Rows in PostgreSQL, so that they are backed up, counted and repaired like everything else.
"""

from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg

from outbox.errors import translated
from outbox.kafka import Received
from outbox.settings import Settings

# A message that is delivered again after a crash finds its letter already there.
WRITE = """
INSERT INTO outbox.dead_letters
    (consumer, topic, partition, "offset", key, value, headers, stream, reason, error, attempts,
     status)
VALUES (%(consumer)s, %(topic)s, %(partition)s, %(offset)s, %(key)s, %(value)s, %(headers)s::jsonb,
        %(stream)s, %(reason)s, %(error)s, %(attempts)s, %(status)s)
ON CONFLICT (consumer, topic, partition, "offset") DO NOTHING
"""
PARKED = """
SELECT DISTINCT stream FROM outbox.dead_letters
WHERE consumer = %s AND status IN ('dead', 'waiting') AND stream IS NOT NULL
"""
LIST = """
SELECT id, consumer, topic, partition, "offset", stream, reason, error, attempts, status,
       created_at::text
FROM outbox.dead_letters
WHERE status IN ('dead', 'waiting') ORDER BY id LIMIT %s
"""
LISTED = ("id", "consumer", "topic", "partition", "offset", "stream", "reason", "error", "attempts")
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


class DeadLetters:
    """The dead letters of one consumer. Each call has a connection of its own: they are rare."""

    def __init__(self, settings: Settings, consumer: str) -> None:
        self._settings = settings
        self._consumer = consumer

    async def write(self, letter: DeadLetter) -> None:
        """Durable on return; DependencyDown where PostgreSQL is away, and then nothing is lost."""
        with translated():
            async with await self._connect() as connection:
                await connection.execute(WRITE, self._parameters(letter))

    async def parked(self) -> set[str]:
        """The keys that wait for a person."""
        with translated():
            async with await self._connect() as connection:
                rows = await connection.execute(PARKED, [self._consumer])
                return {stream for (stream,) in await rows.fetchall()}

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
            "stream": letter.stream,
            "reason": letter.reason,
            "error": letter.error.replace("\x00", "\\0")[:MAX_ERROR_CHARACTERS],
            "attempts": letter.attempts,
            "status": "waiting" if letter.waiting else "dead",
        }

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            self._settings.libpq_url(),
            autocommit=True,
            connect_timeout=self._settings.connect_timeout_seconds,
        )


async def list_dead_letters(settings: Settings, limit: int) -> list[dict[str, Any]]:
    """The oldest `limit` letters of all consumers that still need a person, without their bytes."""
    async with await psycopg.AsyncConnection.connect(settings.libpq_url()) as connection:
        rows = await connection.execute(LIST, [limit])
        names = (*LISTED, "status", "created_at")
        return [dict(zip(names, row, strict=True)) for row in await rows.fetchall()]


def encode_headers(headers: tuple[tuple[str, bytes], ...]) -> str:
    """Headers as JSON that keeps every byte: [[name, base64], ...]."""
    pairs = [[name.replace("\x00", "\\0"), b64encode(raw or b"").decode()] for name, raw in headers]
    return orjson.dumps(pairs).decode()


def decode_headers(pairs: list[list[str]]) -> tuple[tuple[str, bytes], ...]:
    """What `encode_headers` was given, from the column's value."""
    return tuple((name, b64decode(raw)) for name, raw in pairs)
