"""Parked keys: keys of which Kafka refused one message for good, so that later ones wait behind it.

All other keys flow. An operator releases a key when the cause is gone, or discards the refused
message. The relay then publishes what waited, in order, before anything newer of that key.
"""

from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any

import psycopg

from outbox.cursor.cut import COLUMNS, Row
from outbox.kafka import Record, RefusedRecord, Stream, read_stream
from outbox.postgres.sql_file import read_statements
from outbox.relay.sender import SendResult

CHECK_SECONDS = 0.5

SQL = read_statements(__file__, columns=COLUMNS)

KEYS = "SELECT aggregatetype, aggregateid FROM outbox.parked"
RELEASED = KEYS + " WHERE released ORDER BY parked_at LIMIT 100"


class ParkedKeys:
    """What one term of the relay knows of the parked keys.

    `park`, `add_waiting` and `unpark` write in the caller's transaction. `keys` follows only by
    `note_parked` and `note_unparked`, which the caller calls after that transaction.
    """

    def __init__(
        self, connection: psycopg.AsyncConnection[Any], clock: Callable[[], float] = monotonic
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._due = 0.0
        self.keys: set[Stream] = set()

    async def load(self) -> None:
        """Read which keys are parked, at the start of a term."""
        self.keys = await self._read_streams(KEYS)

    def split(self, rows: Sequence[Row]) -> tuple[Sequence[Row], list[Stream], list[int]]:
        """Return the rows that flow, and the keys and positions of the rows that must wait."""
        if not self.keys:
            return rows, [], []
        waiting = [row for row in rows if Stream(row.aggregatetype, row.key) in self.keys]
        flowing = [row for row in rows if Stream(row.aggregatetype, row.key) not in self.keys]
        streams = [Stream(row.aggregatetype, row.key) for row in waiting]
        return flowing, streams, [row.position for row in waiting]

    async def find_released(self) -> list[Stream]:
        """Return the keys that an operator has released, at most 100.

        It asks the database at most once every CHECK_SECONDS, and returns none in between.
        """
        if not self.keys or self._clock() < self._due:
            return []
        self._due = self._clock() + CHECK_SECONDS
        return sorted(await self._read_streams(RELEASED))

    async def read_waiting(self, stream: Stream, limit: int) -> list[Row]:
        """Return the first `limit` messages that wait for the key, in order."""
        parameters = {"aggregatetype": _decode(stream.aggregatetype), "key": _decode(stream.key)}
        async with self._connection.cursor(binary=True) as cursor:
            await cursor.execute(SQL["read_waiting"], parameters | {"limit": limit})
            return [Row._make(row) for row in await cursor.fetchall()]

    async def park(self, refused: Iterable[RefusedRecord]) -> None:
        """Park the key of each refused record, with the reason; one record a key."""
        for each in refused:
            record = each.record
            values = [
                *_decode_stream(read_stream(record)),
                record.topic,
                record.position,
                each.reason,
            ]
            await self._connection.execute(SQL["park"], values)

    async def add_waiting(self, streams: Iterable[Stream], positions: Iterable[int]) -> None:
        """Let these messages wait for their keys; `streams` and `positions` go in pairs."""
        values = [
            [*_decode_stream(stream), position]
            for stream, position in zip(streams, positions, strict=True)
        ]
        if values:
            await self._connection.cursor().executemany(SQL["add_waiting"], values)

    async def unpark(self, stream: Stream, done: Sequence[int]) -> bool:
        """Remove the positions `done` from what waits; return whether the key now flows."""
        await self._connection.execute(SQL["remove_waiting"], [*_decode_stream(stream), list(done)])
        return (await self._connection.execute(SQL["unpark"], _decode_stream(stream))).rowcount == 1

    def note_parked(self, streams: Iterable[Stream]) -> None:
        """Add the keys that the last transaction has parked."""
        self.keys.update(streams)

    def note_unparked(self, stream: Stream) -> None:
        """Remove the key that flows again since the last transaction."""
        self.keys.discard(stream)

    async def _read_streams(self, statement: str) -> set[Stream]:
        rows = await self._connection.execute(statement)
        return {Stream(_encode(kind), _encode(key)) for kind, key in await rows.fetchall()}


def collect_unacknowledged(result: SendResult) -> list[Record]:
    """Return the records of a page that were not acknowledged."""
    return [*(refused.record for refused in result.refused.values()), *result.waiting]


def _decode(value: bytes) -> str:
    return value.decode()


def _encode(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _decode_stream(stream: Stream) -> list[str]:
    return [_decode(stream.aggregatetype), _decode(stream.key)]
