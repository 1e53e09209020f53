"""Days: the partitions of outbox.messages that there are, and what can be asked about one.

A day is told by the bounds of its partition, not by its name, and what is past retention by the
database's clock. The default partition is a day without bounds: it holds late messages, of days
that have no partition (any more, or yet).
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.sql import SQL, Composed, Identifier

from outbox.cursor.cut import Snapshot

EXACT_BYTES = 16 * 1024 * 1024  # a table up to this size is counted, and of a larger one estimated

# Bounds are text only here; they are read back by the session that wrote them.
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

# Two index ranges, as in a cut: nothing is scanned, and the first row that is found ends it.
HIDDEN = SQL("""
SELECT EXISTS (SELECT FROM {day} WHERE transaction_id >= %(xmax)s::xid8)
    OR EXISTS (SELECT FROM {day} WHERE transaction_id = ANY (%(running)s::xid8[]))
""")
# One probe for each message that waits anywhere, which are few.
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
    """A partition: what was created from `first` on and before `after`; both None: the default."""

    name: str
    first: datetime | None = None
    after: datetime | None = None

    @property
    def table(self) -> Identifier:
        return Identifier("outbox", self.name)

    def due(self, horizon: datetime) -> bool:
        """All of it is older than the horizon."""
        return self.after is not None and self.after <= horizon

    def __str__(self) -> str:
        return str(self.first.astimezone(UTC).date()) if self.first else "late"


LATE = DayPartition("messages_default")


async def read_days(connection: psycopg.AsyncConnection[Any]) -> list[DayPartition]:
    """The oldest first, the default one last."""
    async with connection.cursor(row_factory=class_row(DayPartition)) as cursor:
        await cursor.execute(DAYS)
        return await cursor.fetchall()


async def read_horizon(
    connection: psycopg.AsyncConnection[Any], retention_days: int, today: date | None = None
) -> datetime:
    """Midnight (UTC) at which the first retained day begins; all before it is past retention."""
    parameters = {"today": today, "days": retention_days}
    (horizon,) = await _one(connection, HORIZON.encode(), parameters)
    return horizon  # type: ignore[no-any-return]  # a timestamptz


async def has_hidden_messages(
    connection: psycopg.AsyncConnection[Any], day: DayPartition, snapshot: Snapshot
) -> bool:
    """Whether the day has a message that this snapshot does not show."""
    running = [str(xid) for xid in snapshot.running]
    parameters = {"xmax": str(snapshot.xmax), "running": running}
    (hidden,) = await _one(connection, HIDDEN.format(day=day.table), parameters)
    return bool(hidden)


async def count_parked(connection: psycopg.AsyncConnection[Any], day: DayPartition) -> int:
    """How many messages of the day wait behind one that Kafka refused, that one included."""
    (parked,) = await _one(connection, PARKED.format(day=day.table), {})
    return int(parked)


async def measure(connection: psycopg.AsyncConnection[Any], table: str) -> tuple[int, int]:
    """Rows, exact up to EXACT_BYTES and estimated beyond, and bytes with indexes, of a table."""
    name = Identifier("outbox", table)
    parameters = {"exact": EXACT_BYTES, "name": f"outbox.{table}"}
    rows, size = await _one(connection, SIZE.format(table=name), parameters)
    return int(rows), int(size)


async def _one(
    connection: psycopg.AsyncConnection[Any],
    statement: bytes | Composed,
    parameters: dict[str, Any],
) -> tuple[Any, ...]:
    row = await (await connection.execute(statement, parameters)).fetchone()
    assert row is not None  # noqa: S101 - each of these statements has one row
    return tuple(row)
