"""Late messages: those in the default partition, deleted row by row once they are past retention.

They are of transactions that began in a day which is dropped by now, or of days for which nobody
made a partition. The rules are those for a day, held by each row for itself.
"""

from datetime import datetime
from typing import Any

import psycopg

from outbox.cursor.cut import Snapshot
from outbox.retention.compaction import Chunk

# Published, not parked, and not the latest of its key unless that is kept. All of it is told by one
# snapshot, and what it finds so will never be otherwise: nobody but this changes such a row, so no
# lock is needed.
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
        AND NOT EXISTS (SELECT FROM outbox.kept AS kept
                        WHERE kept.aggregatetype = head.aggregatetype
                          AND kept.aggregateid = head.aggregateid
                          AND kept.position = head.position))
"""
COUNT = """
SELECT count(*), min(created_at) FROM outbox.messages_default
WHERE position > %(behind)s AND position <= %(upto)s AND created_at < %(before)s
"""


async def delete_default_rows(
    connection: psycopg.AsyncConnection[Any], chunk: Chunk, before: datetime, cursor: Snapshot
) -> int:
    """Delete what `cursor` shows of those created before; how many."""
    shown = {"xmax": str(cursor.xmax), "running": [str(xid) for xid in cursor.running]}
    deleted = await connection.execute(DELETE, _bounds(chunk, before) | shown)
    return deleted.rowcount


async def count_default_rows(
    connection: psycopg.AsyncConnection[Any], chunk: Chunk, before: datetime
) -> tuple[int, datetime | None]:
    """How many were created before, and when the first one was."""
    row = await (await connection.execute(COUNT, _bounds(chunk, before))).fetchone()
    return (row[0], row[1]) if row else (0, None)


def _bounds(chunk: Chunk, before: datetime) -> dict[str, Any]:
    return {"behind": chunk.behind, "upto": chunk.upto, "before": before}
