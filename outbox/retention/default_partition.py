"""The default partition: its rows are deleted one by one once they are past retention.

They are of transactions that began in a day which is dropped by now, or of days for which no
partition was made. Each row must meet the conditions under which a daily partition is dropped.
"""

from datetime import datetime
from typing import Any

import psycopg

from outbox.cursor.cut import Snapshot
from outbox.retention.compaction import Chunk

# The message is published, not parked, and not the latest of its key unless it is copied to
# outbox.compacted. One snapshot shows all of that, and none of it can change back: only this
# statement changes such a row, so no lock is needed.
DELETE = """
DELETE FROM outbox.messages_default AS message
WHERE position > %(behind)s AND position <= %(upto)s AND created_at < %(before)s
  AND transaction_id < %(xmax)s::xid8 AND transaction_id <> ALL (%(running)s::xid8[])
  AND NOT EXISTS (SELECT FROM outbox.parked_messages AS waiting
                  WHERE waiting.aggregatetype = message.aggregatetype
                    AND waiting.aggregateid = message.aggregateid
                    AND waiting.position = message.position)
  AND NOT EXISTS (
      SELECT FROM outbox.streams AS head
      WHERE head.aggregatetype = message.aggregatetype AND head.aggregateid = message.aggregateid
        AND head.position = message.position
        AND NOT EXISTS (SELECT FROM outbox.compacted AS compacted
                        WHERE compacted.aggregatetype = head.aggregatetype
                          AND compacted.aggregateid = head.aggregateid
                          AND compacted.position = head.position))
"""
COUNT = """
SELECT count(*), min(created_at) FROM outbox.messages_default
WHERE position > %(behind)s AND position <= %(upto)s AND created_at < %(before)s
"""


async def delete_default_rows(
    connection: psycopg.AsyncConnection[Any], chunk: Chunk, before: datetime, cursor: Snapshot
) -> int:
    """Delete the rows of the chunk that were created before and that `cursor` shows as published.

    Returns how many.
    """
    shown = {"xmax": str(cursor.xmax), "running": [str(xid) for xid in cursor.running]}
    deleted = await connection.execute(DELETE, _build_bounds(chunk, before) | shown)
    return deleted.rowcount


async def count_default_rows(
    connection: psycopg.AsyncConnection[Any], chunk: Chunk, before: datetime
) -> tuple[int, datetime | None]:
    """Return how many rows of the chunk were created before, and when the first of them was."""
    row = await (await connection.execute(COUNT, _build_bounds(chunk, before))).fetchone()
    return (row[0], row[1]) if row else (0, None)


def _build_bounds(chunk: Chunk, before: datetime) -> dict[str, Any]:
    return {"behind": chunk.behind, "upto": chunk.upto, "before": before}
