"""Parked keys: one message of the key was refused for good, and its later ones wait behind it.

All other keys flow. A person releases a key, once the cause is gone, or discards the refused
message; the relay then publishes what waited, in order, before anything newer of that key.
"""

from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any

import psycopg

from outbox.cursor.cut import COLUMNS, Row
from outbox.kafka import Record, RefusedRecord, Stream, read_stream
from outbox.relay.sender import SendResult

CHECK_SECONDS = 0.5

KEYS = "SELECT aggregatetype, aggregateid FROM outbox.parked"
RELEASED = KEYS + " WHERE released ORDER BY parked_at LIMIT 100"

# What waited for one key, in the order in which it was committed.
WAITING = f"""
SELECT {COLUMNS}
FROM outbox.messages
WHERE position IN (
    SELECT position FROM outbox.parked_messages
    WHERE aggregatetype = %(aggregatetype)b AND aggregateid = %(key)b
    ORDER BY position LIMIT %(limit)b::bigint)
ORDER BY position
"""  # noqa: S608 - a constant

# A key that is refused again keeps waiting, and waits for a person again.
PARK = """
INSERT INTO outbox.parked (aggregatetype, aggregateid, topic, position, reason)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (aggregatetype, aggregateid) DO UPDATE
SET topic = EXCLUDED.topic, position = EXCLUDED.position, reason = EXCLUDED.reason,
    attempts = parked.attempts + 1, released = false
"""
WAIT = """
INSERT INTO outbox.parked_messages (aggregatetype, aggregateid, position) VALUES (%s, %s, %s)
ON CONFLICT DO NOTHING
"""
FORGET = """
DELETE FROM outbox.parked_messages
WHERE aggregatetype = %s AND aggregateid = %s AND position = ANY (%s)
"""
# Only a key that was released, and has nothing left to wait, flows again.
UNPARK = """
DELETE FROM outbox.parked AS key
WHERE aggregatetype = %s AND aggregateid = %s AND released
  AND NOT EXISTS (SELECT FROM outbox.parked_messages AS waiting
                  WHERE waiting.aggregatetype = key.aggregatetype
                    AND waiting.aggregateid = key.aggregateid)
RETURNING 1
"""


class ParkedKeys:
    """The relay's own view of them, for one term. Every write belongs to the caller's transaction.

    `keys` changes only by `parked` and `unparked`, which are called after that transaction.
    """

    def __init__(
        self, connection: psycopg.AsyncConnection[Any], clock: Callable[[], float] = monotonic
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._due = 0.0
        self.keys: set[Stream] = set()

    async def load(self) -> None:
        self.keys = await self._streams(KEYS)

    def split(self, rows: Sequence[Row]) -> tuple[Sequence[Row], list[Stream], list[int]]:
        """The rows that flow; and the keys and positions of those that wait."""
        if not self.keys:
            return rows, [], []
        waiting = [row for row in rows if Stream(row.aggregatetype, row.key) in self.keys]
        flowing = [row for row in rows if Stream(row.aggregatetype, row.key) not in self.keys]
        streams = [Stream(row.aggregatetype, row.key) for row in waiting]
        return flowing, streams, [row.position for row in waiting]

    async def find_released(self) -> list[Stream]:
        """Keys that a person has released; asked at most once every CHECK_SECONDS."""
        if not self.keys or self._clock() < self._due:
            return []
        self._due = self._clock() + CHECK_SECONDS
        return sorted(await self._streams(RELEASED))

    async def read_waiting(self, stream: Stream, limit: int) -> list[Row]:
        """What waits for the key, from its beginning."""
        parameters = {"aggregatetype": text(stream.aggregatetype), "key": text(stream.key)}
        async with self._connection.cursor(binary=True) as cursor:
            await cursor.execute(WAITING.encode(), parameters | {"limit": limit})
            return [Row._make(row) for row in await cursor.fetchall()]

    async def park(self, refused: Iterable[RefusedRecord]) -> None:
        for each in refused:
            record = each.record
            values = [*_texts(read_stream(record)), record.topic, record.position, each.reason]
            await self._connection.execute(PARK, values)

    async def add_waiting(self, streams: Iterable[Stream], positions: Iterable[int]) -> None:
        values = [
            [*_texts(stream), position] for stream, position in zip(streams, positions, strict=True)
        ]
        if values:
            await self._connection.cursor().executemany(WAIT, values)

    async def unpark(self, stream: Stream, done: Sequence[int]) -> bool:
        """Forget what no longer waits; True where the key now flows."""
        await self._connection.execute(FORGET, [*_texts(stream), list(done)])
        return (await self._connection.execute(UNPARK, _texts(stream))).rowcount == 1

    def note_parked(self, streams: Iterable[Stream]) -> None:
        self.keys.update(streams)

    def note_unparked(self, stream: Stream) -> None:
        self.keys.discard(stream)

    async def _streams(self, statement: str) -> set[Stream]:
        rows = await self._connection.execute(statement)
        return {Stream(raw(kind), raw(key)) for kind, key in await rows.fetchall()}


def collect_unacknowledged(carried: SendResult) -> list[Record]:
    """The records of a page that were not acknowledged."""
    return [*(refused.record for refused in carried.refused.values()), *carried.waiting]


def text(value: bytes) -> str:
    return value.decode()


def raw(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _texts(stream: Stream) -> list[str]:
    return [text(stream.aggregatetype), text(stream.key)]
