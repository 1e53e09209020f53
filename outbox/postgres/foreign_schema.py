"""Recognises a schema named `outbox` that is not, or not only, ours, before anything is changed.

Another product may own a schema of that name, and somebody may have changed ours by hand. Both
raise SchemaForeign: one line that says what is there and what to do.
"""

from collections.abc import Collection, Sequence
from typing import Any

import psycopg

from outbox.errors import SchemaForeign

# All relations except indexes and sequences, which belong to tables; functions; and types that do
# not come with a table.
OBJECTS = """
    SELECT CASE relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'view ' ELSE 'table ' END || relname
    FROM pg_catalog.pg_class
    WHERE relnamespace = to_regnamespace('outbox') AND relkind IN ('r', 'p', 'v', 'm', 'f')
    UNION ALL
    SELECT 'function ' || proname FROM pg_catalog.pg_proc
    WHERE pronamespace = to_regnamespace('outbox')
    UNION ALL
    SELECT 'type ' || typname FROM pg_catalog.pg_type
    WHERE typnamespace = to_regnamespace('outbox') AND typtype IN ('d', 'e')
    ORDER BY 1
"""
COLUMNS = """
    SELECT attname FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass('outbox.migrations') AND attnum > 0 AND NOT attisdropped
"""
RECORD = "table migrations"
RECORDED = frozenset({"component", "number", "name", "digest", "applied_at"})
NAMED = 3
REPAIR = (
    "nothing was changed; name another database in POSTGRES_URL, or rename that schema: "
    "ALTER SCHEMA outbox RENAME TO another"
)


async def require_ours(connection: psycopg.AsyncConnection[Any]) -> None:
    """Raise SchemaForeign where there is a schema `outbox` that none of our migrations has made."""
    objects = await _fetch_column(connection, OBJECTS)
    others = [each for each in objects if each != RECORD]
    if RECORD not in objects:
        if others:
            raise SchemaForeign(_describe(connection, others))
        return
    if not set(await _fetch_column(connection, COLUMNS)) >= RECORDED:
        raise SchemaForeign(_describe(connection, objects))
    if others and not await _fetch_column(connection, "SELECT name FROM outbox.migrations LIMIT 1"):
        raise SchemaForeign(_describe(connection, others))


def require_no_gap(component: str, applied: Collection[int], known: Collection[int]) -> None:
    """Raise SchemaForeign where a later number is applied and an earlier one is not."""
    missing = sorted(set(known) - set(applied))
    if missing and applied and missing[0] < max(applied):
        raise SchemaForeign(
            f"{component} {max(applied):04d} is applied and {missing[0]:04d} is not: rows of "
            "outbox.migrations were removed, or the versions of two branches were mixed; nothing "
            "was changed; restore that row, or the database"
        )


def find_newer(component: str, applied: Collection[int], known: Collection[int]) -> list[str]:
    """Return the migrations that a later version of this program has applied."""
    return [f"{component} {number:04d}" for number in sorted(set(applied) - set(known))]


async def describe_wrong(connection: psycopg.AsyncConnection[Any]) -> str | None:
    """Say why a statement of ours did not fit the schema; None where the schema is ours."""
    try:
        await require_ours(connection)
    except SchemaForeign as error:
        return str(error)
    if not await _fetch_column(connection, OBJECTS):
        return "the database has no outbox; run `python -m services migrate`"
    return None


def _describe(connection: psycopg.AsyncConnection[Any], objects: Sequence[str]) -> str:
    more = f" and {len(objects) - NAMED} more" if len(objects) > NAMED else ""
    there = ", ".join(objects[:NAMED]) + more
    name = connection.info.dbname
    return f"the schema outbox of database {name} is not Aftercommit's: it has {there}; {REPAIR}"


async def _fetch_column(connection: psycopg.AsyncConnection[Any], query: str) -> list[str]:
    return [row[0] for row in await (await connection.execute(query.encode())).fetchall()]
