"""Daily partitions of past days, which a migrated database does not have."""

import psycopg

from tests.kit.aged import fetch

# This makes a past day's partition as outbox.create_partitions makes those from today on.
PAST_DAY = """
DO $$ DECLARE
    day date := (now() AT TIME ZONE 'UTC')::date - {ago};
    name text := 'messages_' || to_char(day, 'YYYYMMDD');
BEGIN
    EXECUTE format('CREATE TABLE IF NOT EXISTS outbox.%I PARTITION OF outbox.messages'
        ' FOR VALUES FROM (%L) TO (%L)',
        name, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
    EXECUTE format('ALTER TABLE outbox.%I REPLICA IDENTITY FULL', name);
END $$
"""
NAME = "SELECT 'messages_' || to_char((now() AT TIME ZONE 'UTC')::date - %s::integer, 'YYYYMMDD')"

Connection = psycopg.AsyncConnection


async def past_day(connection: Connection, ago: int) -> str:
    """Make the partition of so many days ago; return its name."""
    await connection.execute(PAST_DAY.replace("{ago}", str(ago)).encode())
    row = await (await connection.execute(NAME, [ago])).fetchone()
    assert row is not None
    return str(row[0])


async def days_there(connection: Connection) -> list[str]:
    """Return the names of the partitions of past days."""
    found = await fetch(
        connection,
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent = 'outbox.messages'::regclass"
        "   AND inhrelid::regclass::text"
        "     < 'outbox.messages_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')"
        " ORDER BY 1",
    )
    return [str(name).removeprefix("outbox.") for (name,) in found]
