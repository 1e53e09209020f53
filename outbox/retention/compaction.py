"""Compaction: copies the latest message of every key before its daily partition is dropped.

It takes no lock that writers wait for, and needs none. Stream heads only move on to higher
positions, so a key's latest message at the time of the drop was its latest message when it was
copied, unless it was written since. Its transaction shows that: `compact` returns the snapshot that
it began with, and before the drop `retention` looks whether the day has a message that this
snapshot does not show.
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

# The end of a chunk: the position of the last of the next `rows` rows, by the index on position.
END = SQL("""
SELECT position FROM {day} WHERE position > %(behind)s ORDER BY position
OFFSET %(rows)s - 1 LIMIT 1
""")

# In key order, so that two sessions that compact the same day wait for each other and never
# deadlock. A message that is in both tables is the same one; only a later message replaces a copy.
KEEP = SQL("""
INSERT INTO outbox.compacted AS compacted (aggregatetype, aggregateid, position, id, type, version,
                                           topic, payload, headers, created_at)
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
WHERE compacted.position < EXCLUDED.position
""")

DELETE_END = """
SELECT aggregatetype, aggregateid FROM outbox.compacted
WHERE (aggregatetype, aggregateid) > (%(aggregate)s, %(key)s)
ORDER BY aggregatetype, aggregateid OFFSET %(rows)s - 1 LIMIT 1
"""
# A stream head that has moved on never comes back to this message.
DELETE = """
DELETE FROM outbox.compacted AS compacted
WHERE (compacted.aggregatetype, compacted.aggregateid) > (%(aggregate)s, %(key)s)
  AND (%(last_aggregate)s::text IS NULL
       OR (compacted.aggregatetype, compacted.aggregateid) <= (%(last_aggregate)s, %(last_key)s))
  AND NOT EXISTS (SELECT FROM outbox.streams AS head
                  WHERE head.aggregatetype = compacted.aggregatetype
                    AND head.aggregateid = compacted.aggregateid
                    AND head.position = compacted.position)
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The positions above `behind`, up to and with `upto`."""

    behind: int
    upto: int


async def read_chunks(
    connection: psycopg.AsyncConnection[Any], day: DayPartition, rows: int
) -> AsyncGenerator[Chunk, None]:
    """Yield chunks of `rows` rows that cover the whole partition.

    The last chunk has no upper bound, so it has the rows that are written meanwhile, too.
    """
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
    """Copy each message of the day that is its key's latest to outbox.compacted, `rows` at a time.

    With `before`, only messages created before that are copied. Returns the snapshot that was read
    first, and how many copies were new or newer than those there were. It may be repeated.
    """
    found = await (await connection.execute("SELECT pg_current_snapshot()::text")).fetchone()
    assert found is not None  # noqa: S101 - a SELECT without FROM has one row
    compacted = 0
    async for chunk in read_chunks(connection, day, rows):
        async with planned_transaction(connection):
            parameters = {"behind": chunk.behind, "upto": chunk.upto, "before": before}
            compacted += (await connection.execute(KEEP.format(day=day.table), parameters)).rowcount
    return Snapshot.parse(found[0]), compacted


async def delete_compacted(connection: psycopg.AsyncConnection[Any], rows: int) -> int:
    """Delete each copy that is no longer its key's latest message; return how many.

    It looks at `rows` copies at a time.
    """
    deleted = 0
    last: tuple[str, str] | None = ("", "")
    while last is not None:
        behind = {"aggregate": last[0], "key": last[1]}
        async with planned_transaction(connection):
            end = await connection.execute(DELETE_END, behind | {"rows": rows})
            last = await end.fetchone()
            upto = dict(zip(("last_aggregate", "last_key"), last or (None, None), strict=True))
            deleted += (await connection.execute(DELETE, behind | upto)).rowcount
    return deleted
