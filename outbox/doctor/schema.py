"""Checks of the schema: whether the outbox's tables are there, up to date, and open to a relay."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import psycopg
from psycopg.rows import class_row

from outbox.doctor.diagnosis import (
    Check,
    CheckResult,
    SeverityPolicy,
    judge_each,
    report_unanswered,
)
from outbox.doctor.rows import read_row
from outbox.errors import SchemaBehind
from outbox.postgres.migrate import outbox_migrations, require_current
from outbox.settings import Settings

MIGRATIONS = Check(
    "outbox-migrations",
    SeverityPolicy.FATAL,
    "every migration of this version is applied: a relay refuses a database that lacks one",
    "python -m outbox migrate (or python -m services migrate)",
)
RIGHTS = Check(
    "outbox-rights",
    SeverityPolicy.FATAL,
    "this role may do with the outbox's tables what a relay does: without, nothing is published",
    "GRANT <right> ON <table> TO <role>, or run doctor as the relay's role",
)
PARTITION_RIGHTS = Check(
    "outbox-partition-rights",
    SeverityPolicy.MILD,
    "this role owns outbox.messages and may create in its schema: a relay makes the daily"
    " partitions to come and drops those past retention; where it may not, somebody else must",
    "GRANT <owner of outbox.messages> TO <role>, or run python -m outbox partitions create and"
    " prune as the owner, every day",
)
PARTITIONS = Check(
    "outbox-partitions",
    SeverityPolicy.MILD,
    "today's and tomorrow's partitions (UTC) are there: a relay makes them ahead, so that no row"
    " needs the default one",
    "start a relay, or python -m outbox partitions create",
)
DEFAULT_PARTITION = Check(
    "outbox-default-partition",
    SeverityPolicy.MILD,
    "the default partition is empty: a row in it came on a day that had no partition",
    "none needed: its rows are published all the same, and go with their retention; look why no"
    " relay made its day's partition",
)
CHECKS_OF_MIGRATIONS = (MIGRATIONS,)
CHECKS_OF_RIGHTS = (RIGHTS, PARTITION_RIGHTS)
CHECKS_OF_PARTITIONS = (PARTITIONS, DEFAULT_PARTITION)

# What the statements of a relay need, table by table.
NEEDED = {
    "migrations": ("SELECT",),
    "messages": ("SELECT",),
    "relay": ("SELECT", "UPDATE"),
    "deliveries": ("INSERT",),
    "topics": ("SELECT", "INSERT"),
    "database_identity": ("SELECT", "INSERT"),
    "parked": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "parked_messages": ("SELECT", "INSERT", "DELETE"),
}

# Tables are found by the catalogue's ids: a name in a schema that is closed to us does not resolve.
READ_LACKING = """
SELECT relation.relname::text,
       string_agg(needed.privilege, ', ' ORDER BY needed.privilege)
FROM unnest(%(names)s::text[], %(privileges)s::text[]) AS needed (name, privilege)
JOIN pg_class AS relation ON relation.relname = needed.name
JOIN pg_namespace AS space ON space.oid = relation.relnamespace AND space.nspname = 'outbox'
WHERE NOT has_table_privilege(relation.oid, needed.privilege)
GROUP BY relation.relname
UNION ALL
SELECT 'schema outbox', 'USAGE'
FROM pg_namespace AS space
WHERE space.nspname = 'outbox' AND NOT has_schema_privilege(space.oid, 'USAGE')
ORDER BY 1
"""
READ_OWNER = """
SELECT current_user::text AS role, pg_get_userbyid(relation.relowner)::text AS owner,
       pg_has_role(relation.relowner, 'USAGE') AS owns,
       has_schema_privilege(space.oid, 'CREATE') AS creates
FROM pg_class AS relation
JOIN pg_namespace AS space ON space.oid = relation.relnamespace AND space.nspname = 'outbox'
WHERE relation.relname = 'messages'
"""
READ_PARTITIONS = """
SELECT ARRAY(SELECT child.relname::text
             FROM pg_inherits
             JOIN pg_class AS child ON child.oid = inhrelid
             WHERE inhparent = 'outbox.messages'::regclass) AS attached,
       (now() AT TIME ZONE 'UTC')::date AS today,
       EXISTS (SELECT FROM outbox.messages_default) AS default_used
"""


@dataclass(frozen=True, slots=True)
class Ownership:
    """What the role of this connection may do to the table outbox.messages itself."""

    role: str
    owner: str
    owns: bool
    creates: bool


@dataclass(frozen=True, slots=True)
class Rights:
    """`lacking` are pairs of a table and the rights that a relay needs there and this role lacks.

    `ownership` is None where there is no outbox.
    """

    lacking: list[tuple[str, str]]
    ownership: Ownership | None


@dataclass(frozen=True, slots=True)
class DailyPartitions:
    """The names of the partitions that are there, and today's date in the database (UTC)."""

    attached: list[str]
    today: date
    default_used: bool


async def read_migrations(connection: psycopg.AsyncConnection[Any]) -> str | None:
    """Return why a relay would refuse this schema; None where it would not."""
    try:
        await require_current(connection, outbox_migrations())
    except (SchemaBehind, ValueError) as error:
        return str(error)
    return None


def judge_migrations(refused: str | None, settings: Settings) -> Iterator[CheckResult]:
    yield MIGRATIONS.judge(settings, refused or "all are applied", fine=refused is None)


async def read_rights(connection: psycopg.AsyncConnection[Any]) -> Rights:
    """Read which privileges this role lacks, and who owns the table of messages."""
    needed = [(name, privilege) for name, each in NEEDED.items() for privilege in each]
    names, privileges = zip(*needed, strict=True)
    parameters = {"names": list(names), "privileges": list(privileges)}
    rows = await (await connection.execute(READ_LACKING, parameters)).fetchall()
    async with connection.cursor(row_factory=class_row(Ownership)) as cursor:
        await cursor.execute(READ_OWNER)
        return Rights(rows, await cursor.fetchone())


def judge_rights(rights: Rights, settings: Settings) -> Iterator[CheckResult]:
    own = rights.ownership
    if own is None:
        yield from report_unanswered(CHECKS_OF_RIGHTS, "there is no outbox")
        return
    lacking = [(name, f"{own.role} lacks {privileges}") for name, privileges in rights.lacking]
    yield from judge_each(RIGHTS, settings, lacking, f"{own.role} has them all")
    found = f"outbox.messages belongs to {own.owner}"
    found += "" if own.owns else f", of which {own.role} is no member"
    found += "" if own.creates else f"; {own.role} may not create in its schema"
    yield PARTITION_RIGHTS.judge(settings, found, fine=own.owns and own.creates)


async def read_partitions(connection: psycopg.AsyncConnection[Any]) -> DailyPartitions:
    return await read_row(connection, READ_PARTITIONS, DailyPartitions)


def judge_partitions(found: DailyPartitions, settings: Settings) -> Iterator[CheckResult]:
    wanted = [found.today, found.today + timedelta(days=1)]
    missing = [
        (str(day), "no partition")
        for day in wanted
        if f"messages_{day:%Y%m%d}" not in found.attached
    ]
    last = max((name for name in found.attached if name != "messages_default"), default="none")
    yield from judge_each(PARTITIONS, settings, missing, f"up to {last}")
    used = "it holds rows" if found.default_used else "it is empty"
    yield DEFAULT_PARTITION.judge(settings, used, fine=not found.default_used)
