"""The default partition: its rows are deleted one by one once they are past retention.

They are of transactions that began in a day which is dropped by now, or of days for which no
partition was made. Each row must meet the conditions under which a daily partition is dropped.
"""

from datetime import datetime
from typing import Any

import psycopg

from outbox.cursor.cut import Snapshot
from outbox.postgres.sql_file import read_statements
from outbox.retention.compaction import Chunk

SQL = read_statements(__file__)


async def delete_default_rows(
    connection: psycopg.AsyncConnection[Any], chunk: Chunk, before: datetime, cursor: Snapshot
) -> int:
    """Delete the rows of the chunk that were created before and that `cursor` shows as published.

    Returns how many.
    """
    shown = {"xmax": str(cursor.xmax), "running": [str(xid) for xid in cursor.running]}
    deleted = await connection.execute(SQL["delete"], _build_bounds(chunk, before) | shown)
    return deleted.rowcount


async def count_default_rows(
    connection: psycopg.AsyncConnection[Any], chunk: Chunk, before: datetime
) -> tuple[int, datetime | None]:
    """Return how many rows of the chunk were created before, and when the first of them was."""
    row = await (await connection.execute(SQL["count"], _build_bounds(chunk, before))).fetchone()
    return (row[0], row[1]) if row else (0, None)


def _build_bounds(chunk: Chunk, before: datetime) -> dict[str, Any]:
    return {"behind": chunk.behind, "upto": chunk.upto, "before": before}
