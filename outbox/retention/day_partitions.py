"""DayPartition: the partitions of outbox.messages, and the questions that can be asked about one.

The day of a partition is read from its bounds, not from its name, and the database's clock decides
what is past retention. The default partition has no bounds: it holds messages of days that have no
daily partition any more, or not yet.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.sql import SQL, Composed, Identifier

from outbox.cursor.cut import Snapshot

EXACT_BYTES = 16 * 1024 * 1024  # rows of a table up to this size are counted, else estimated

# The bounds are text only here; the session that writes them reads them back.
DAYS = """
SELECT name, bounds[1]::timestamptz AS first, bounds[2]::timestamptz AS after
FROM (
    SELECT relname::text AS name, regexp_match(pg_get_expr(relpartbound, partition.oid),
                                               $$FROM \\('(.+)'\\) TO \\('(.+)'\\)$$) AS bounds
    FROM pg_inherits JOIN pg_class AS partition ON partition.oid = inhrelid
    WHERE inhparent = 'outbox.messages'::regclass
      AND relnamespace = 'outbox'::regnamespace
) AS partition
ORDER BY first NULLS LAST, name
"""
HORIZON = """
SELECT (coalesce(%(today)s::date, (now() AT TIME ZONE 'UTC')::date) - %(days)s::integer)::timestamp
       AT TIME ZONE 'UTC'
"""

# Two index ranges, like those of a cut: no table is scanned, and the first row found is enough.
HIDDEN = SQL("""
SELECT EXISTS (SELECT FROM {day} WHERE transaction_id >= %(xmax)s::xid8)
    OR EXISTS (SELECT FROM {day} WHERE transaction_id = ANY (%(running)s::xid8[]))
""")
# One index probe for each parked message of all days; there are few.
PARKED = SQL("""
SELECT count(*) FROM outbox.parked_messages AS waiting
WHERE EXISTS (SELECT FROM {day} AS message WHERE message.position = waiting.position)
""")
SIZE = SQL("""
SELECT CASE WHEN pg_relation_size(oid) <= %(exact)s THEN (SELECT count(*) FROM {table})
            ELSE greatest(reltuples, pg_stat_get_live_tuples(oid), 0)::bigint END,
       pg_total_relation_size(oid)
FROM pg_class WHERE oid = %(name)s::regclass
""")


@dataclass(frozen=True, slots=True)
class DayPartition:
    """A partition with the messages created from `first` on and before `after`.

    Both are None for the default partition.
    """

    name: str
    first: datetime | None = None
    after: datetime | None = None

    @property
    def table(self) -> Identifier:
        """Its name in SQL, with the schema."""
        return Identifier("outbox", self.name)

    def due(self, horizon: datetime) -> bool:
        """Whether all of it is older than the horizon; never so for the default partition."""
        return self.after is not None and self.after <= horizon

    def __str__(self) -> str:
        """Return the day in UTC, `2026-11-30`; the default partition is called `late`."""
        return str(self.first.astimezone(UTC).date()) if self.first else "late"


DEFAULT_PARTITION = DayPartition("messages_default")


async def read_days(connection: psycopg.AsyncConnection[Any]) -> list[DayPartition]:
    """Return all partitions, the oldest first and the default one last."""
    async with connection.cursor(row_factory=class_row(DayPartition)) as cursor:
        await cursor.execute(DAYS)
        return await cursor.fetchall()


async def read_horizon(
    connection: psycopg.AsyncConnection[Any], retention_days: int, today: date | None = None
) -> datetime:
    """Return the midnight (UTC) before which everything is past retention.

    `today` stands in for the date of the database.
    """
    parameters = {"today": today, "days": retention_days}
    (horizon,) = await _fetch_row(connection, HORIZON.encode(), parameters)
    return horizon  # type: ignore[no-any-return]  # a timestamptz


async def has_hidden_messages(
    connection: psycopg.AsyncConnection[Any], day: DayPartition, snapshot: Snapshot
) -> bool:
    """Return whether the day has a message that this snapshot does not show."""
    running = [str(xid) for xid in snapshot.running]
    parameters = {"xmax": str(snapshot.xmax), "running": running}
    (hidden,) = await _fetch_row(connection, HIDDEN.format(day=day.table), parameters)
    return bool(hidden)


async def count_parked(connection: psycopg.AsyncConnection[Any], day: DayPartition) -> int:
    """Return how many messages of the day are parked: refused by Kafka, or behind such a one."""
    (parked,) = await _fetch_row(connection, PARKED.format(day=day.table), {})
    return int(parked)


async def measure(connection: psycopg.AsyncConnection[Any], table: str) -> tuple[int, int]:
    """Return the rows of a table, exact up to EXACT_BYTES, and its bytes with indexes."""
    name = Identifier("outbox", table)
    parameters = {"exact": EXACT_BYTES, "name": f"outbox.{table}"}
    rows, size = await _fetch_row(connection, SIZE.format(table=name), parameters)
    return int(rows), int(size)


async def _fetch_row(
    connection: psycopg.AsyncConnection[Any],
    statement: bytes | Composed,
    parameters: dict[str, Any],
) -> tuple[Any, ...]:
    row = await (await connection.execute(statement, parameters)).fetchone()
    assert row is not None  # noqa: S101 - each of these statements has one row
    return tuple(row)
