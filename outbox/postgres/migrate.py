"""Applies numbered SQL files in order, each of them once, under an advisory lock."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import structlog

import outbox
from outbox.environment.postgres_address import PostgresAddress
from outbox.errors import Halted, SchemaBehind, SchemaForeign
from outbox.postgres.connection import FIXED, open_session
from outbox.postgres.foreign_schema import find_newer, require_no_gap, require_ours
from outbox.settings import DEFAULT_SEARCH_PATH

log = structlog.get_logger()

LOCK = 4_190_823_571  # any number that nobody else in the database uses as an advisory lock

UNICODE = (
    "the outbox needs UTF8: CREATE DATABASE <name> ENCODING 'UTF8' TEMPLATE template0, and migrate"
    " that one"
)

PREPARE = """
    CREATE SCHEMA IF NOT EXISTS outbox;
    CREATE TABLE IF NOT EXISTS outbox.migrations (
        component  text        NOT NULL,
        number     integer     NOT NULL,
        name       text        NOT NULL,
        digest     text        NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (component, number)
    )
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file of one component, for example `0001_messages.sql`."""

    component: str
    number: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        return sha256(self.sql.encode()).hexdigest()


def read_migrations(component: str, folder: Path) -> list[Migration]:
    """Read the migrations in `folder`.

    It raises ValueError unless they are numbered from 1 without a gap.
    """
    found = []
    for number, path in enumerate(sorted(folder.glob("*.sql")), start=1):
        match = re.fullmatch(r"(\d{4})_([a-z0-9_]+)", path.stem)
        if match is None or int(match[1]) != number:
            raise ValueError(f"{path.name}: expected number {number:04d}, then _ and a name")
        found.append(Migration(component, number, match[2], path.read_text(encoding="utf-8")))
    return found


def outbox_migrations() -> list[Migration]:
    """Return the migrations of the outbox itself, without those of services."""
    return read_migrations("outbox", Path(outbox.__file__).parent / "migrations")


# The locks of a migration last until its commit has ended. So the commit waits for the disk, and
# not for a standby, which may be away.
LOCALLY = "SET LOCAL synchronous_commit = local"


async def migrate(
    url: str, migrations: Sequence[Migration], search_path: str = DEFAULT_SEARCH_PATH
) -> list[Migration]:
    """Apply the missing migrations and return them.

    Several may run at once: one works, and the others wait. A file and its row in outbox.migrations
    are committed together, so the next run goes on where one was killed. It raises SchemaForeign
    where an applied file has changed since or the schema is not ours, and Halted in a database that
    is not encoded in UTF8; nothing is changed then. A newer schema is left as it is. Unqualified
    tables of a service are created in the first schema of `search_path`.
    """
    address, fixed = PostgresAddress.parse(url), {**FIXED, "search_path": search_path}
    async with await open_session(
        address, "aftercommit migrate", fixed=fixed, autocommit=True
    ) as connection:
        await _require_unicode(connection)
        await connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        await require_ours(connection)
        await connection.execute(PREPARE)
        pending = await _find_pending(connection, migrations)
        await _require_sequence(connection, migrations)
        for migration in pending:
            await _apply(connection, migration)
        return pending


async def _require_unicode(connection: psycopg.AsyncConnection[Any]) -> None:
    """Raise Halted unless the database is encoded in UTF8.

    Any other encoding refuses texts that the schemas allow. SQL_ASCII refuses nothing, but it takes
    the bytes of every client as they are, so that no reader could read a message of a client in
    LATIN1.
    """
    row = await (await connection.execute("SHOW server_encoding")).fetchone()
    if row is not None and row[0] != "UTF8":
        raise Halted(f"{connection.info.dbname} is encoded in {row[0]}, and {UNICODE}")


async def require_current(
    connection: psycopg.AsyncConnection, migrations: Sequence[Migration]
) -> None:
    """Raise SchemaBehind where a migration is missing, SchemaForeign where they are not ours."""
    try:
        missing = await _find_pending(connection, migrations)
    except psycopg.errors.UndefinedTable as error:
        with suppress(
            psycopg.errors.InFailedSqlTransaction
        ):  # a service calls this within its own transaction
            await require_ours(connection)
        raise SchemaBehind("the database has no outbox; run `python -m outbox migrate`") from error
    except psycopg.errors.UndefinedColumn:
        with suppress(psycopg.errors.InFailedSqlTransaction):
            await require_ours(connection)
        raise
    if missing:
        names = ", ".join(f"{m.component} {m.number:04d}" for m in missing)
        raise SchemaBehind(f"not applied: {names}; run `python -m services migrate`")


async def _find_pending(
    connection: psycopg.AsyncConnection, migrations: Sequence[Migration]
) -> list[Migration]:
    rows = await connection.execute("SELECT component, number, digest FROM outbox.migrations")
    applied = {(component, number): digest for component, number, digest in await rows.fetchall()}
    for migration in migrations:
        known = applied.get((migration.component, migration.number))
        if known not in (None, migration.digest):
            which = f"{migration.component} {migration.number:04d}"
            raise SchemaForeign(f"{which} changed after it ran")
    return [m for m in migrations if (m.component, m.number) not in applied]


async def _require_sequence(
    connection: psycopg.AsyncConnection, migrations: Sequence[Migration]
) -> None:
    """Require that each component's numbers are applied without a gap; log a newer schema."""
    cursor = await connection.execute("SELECT component, number FROM outbox.migrations")
    rows = await cursor.fetchall()
    for component in dict.fromkeys(each.component for each in migrations):
        applied = [number for name, number in rows if name == component]
        known = [each.number for each in migrations if each.component == component]
        require_no_gap(component, applied, known)
        if later := find_newer(component, applied, known):
            log.warning("the schema is newer than this version", unknown=", ".join(later))


async def _apply(connection: psycopg.AsyncConnection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(LOCALLY)
        await connection.execute(migration.sql.encode())
        await connection.execute(
            "INSERT INTO outbox.migrations (component, number, name, digest)"
            " VALUES (%s, %s, %s, %s)",
            [migration.component, migration.number, migration.name, migration.digest],
        )
    log.info("migrated", component=migration.component, number=migration.number)
