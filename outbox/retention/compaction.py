"""Kept: the latest message of every key, copied before the day that holds it is dropped.

It takes no lock from writers, and needs none: heads only move on to higher positions, so what is a
key's latest message at the drop was its latest when it was kept, unless it was written since. That
shows by its transaction: `keep` tells the snapshot that it began with, and who drops looks whether
the day has a message that this snapshot does not show.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.sql import SQL

from outbox.cursor.cut import HIGHEST, Snapshot
from outbox.postgres.transactions import planned_transaction
from outbox.retention.day_partitions import DayPartition

# Where a chunk ends: the last but one row of the next `rows`, by the index on position.
END = SQL("""
SELECT position FROM {day} WHERE position > %(behind)s ORDER BY position
OFFSET %(rows)s - 1 LIMIT 1
""")

# In key order, so that two who keep the same day wait for each other and never deadlock. A message
# that is in both places is the same one; only a later one takes a kept one's place.
KEEP = SQL("""
INSERT INTO outbox.kept AS kept (aggregatetype, aggregateid, position, id, type, version, topic,
                                 payload, headers, created_at)
SELECT head.aggregatetype, head.aggregateid, position, message.id, message.type, message.version,
       message.topic, message.payload, message.headers, message.created_at
FROM {day} AS message
JOIN outbox.streams AS head USING (aggregatetype, aggregateid, position)
WHERE position > %(behind)s AND position <= %(upto)s
  AND (%(before)s::timestamptz IS NULL OR message.created_at < %(before)s)
ORDER BY head.aggregatetype, head.aggregateid
ON CONFLICT (aggregatetype, aggregateid) DO UPDATE
SET position = EXCLUDED.position, id = EXCLUDED.id, type = EXCLUDED.type,
    version = EXCLUDED.version, topic = EXCLUDED.topic, payload = EXCLUDED.payload,
    headers = EXCLUDED.headers, created_at = EXCLUDED.created_at
WHERE kept.position < EXCLUDED.position
""")

FORGET_END = """
SELECT aggregatetype, aggregateid FROM outbox.kept
WHERE (aggregatetype, aggregateid) > (%(aggregate)s, %(key)s)
ORDER BY aggregatetype, aggregateid OFFSET %(rows)s - 1 LIMIT 1
"""
# A head that has moved on never comes back to this message.
FORGET = """
DELETE FROM outbox.kept AS kept
WHERE (kept.aggregatetype, kept.aggregateid) > (%(aggregate)s, %(key)s)
  AND (%(last_aggregate)s::text IS NULL
       OR (kept.aggregatetype, kept.aggregateid) <= (%(last_aggregate)s, %(last_key)s))
  AND NOT EXISTS (SELECT FROM outbox.streams AS head
                  WHERE head.aggregatetype = kept.aggregatetype
                    AND head.aggregateid = kept.aggregateid AND head.position = kept.position)
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Positions above `behind`, up to `upto`."""

    behind: int
    upto: int


async def read_chunks(
    connection: psycopg.AsyncConnection[Any], day: DayPartition, rows: int
) -> AsyncGenerator[Chunk, None]:
    """The whole day, by and by; the last chunk is open, for whatever is written meanwhile."""
    behind = 0
    while True:
        async with planned_transaction(connection):
            found = await connection.execute(
                END.format(day=day.table), {"behind": behind, "rows": rows}
            )
            end = await found.fetchone()
        if end is None:
            yield Chunk(behind, HIGHEST)
            return
        yield Chunk(behind, end[0])
        behind = end[0]


async def compact(
    connection: psycopg.AsyncConnection[Any], day: DayPartition, before: datetime | None, rows: int
) -> tuple[Snapshot, int]:
    """Copy what is its key's latest message, of those created before, or of all; `rows` at once.

    Returns the snapshot that was read first, and how many were new or newer. It may be repeated.
    """
    found = await (await connection.execute("SELECT pg_current_snapshot()::text")).fetchone()
    assert found is not None  # noqa: S101 - a SELECT without FROM has one row
    kept = 0
    async for chunk in read_chunks(connection, day, rows):
        async with planned_transaction(connection):
            parameters = {"behind": chunk.behind, "upto": chunk.upto, "before": before}
            kept += (await connection.execute(KEEP.format(day=day.table), parameters)).rowcount
    return Snapshot.parse(found[0]), kept


async def delete_compacted(connection: psycopg.AsyncConnection[Any], rows: int) -> int:
    """Delete what is no longer its key's latest message; `rows` at once are looked at."""
    forgotten = 0
    last: tuple[str, str] | None = ("", "")
    while last is not None:
        behind = {"aggregate": last[0], "key": last[1]}
        async with planned_transaction(connection):
            end = await connection.execute(FORGET_END, behind | {"rows": rows})
            last = await end.fetchone()
            upto = dict(zip(("last_aggregate", "last_key"), last or (None, None), strict=True))
            forgotten += (await connection.execute(FORGET, behind | upto)).rowcount
    return forgotten
