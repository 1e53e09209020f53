"""Reconcile: gives the relay a cursor that is true for the database as it is now.

Nothing that was committed is lost and no key is reordered. What may already be in Kafka is sent
again only where nobody can tell. There are three remedies; which one it is depends on what
`database_identity.read_identity` finds:

follow      the transaction ids are those of the cursor's own history (failover, recovery to a point
            in time, pg_upgrade, a copied database): cursor and rows come from the same WAL, so the
            cursor is right as it stands, and the new identity is recorded.
renumber    the ids came with a dump. Published messages take an id that every snapshot shows,
            all others the id of this transaction, and the cursor becomes a snapshot that does not
            show it. So the relay's next cut is what was not published, in order of position.
republish   the ids came with a dump, and besides, positions were drawn here that the dump already
            held, because its sequences were not restored. Nobody can tell then what was published.
            Every message gets a new position, in order of version for each key, and all are sent
            once more, also those that an operator had discarded.

Weakness: what was published after the dump was made, or after the last commit that the standby has,
is in Kafka and not in PostgreSQL. Its versions are published again with other content; `outbox
audit` lists them.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import psycopg

from outbox.cursor.database_identity import DatabaseIdentity, read_identity, record_identity
from outbox.cursor.relay_row import require_relay_row
from outbox.errors import DependencyDown, InvalidInput
from outbox.operations import Operation
from outbox.postgres.sql_file import read_statements


class Remedy(StrEnum):
    """What a reconciliation does; the module's docstring explains each."""

    NOTHING = "nothing"
    FOLLOW = "follow"
    RENUMBER = "renumber"
    REPUBLISH = "republish"


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What was found, the remedy, and how many messages count as published and as not published."""

    changes: list[str]
    remedy: Remedy
    published: int = 0
    to_publish: int = 0


SQL = read_statements(__file__)
PATIENCE_SECONDS = 30.0


async def preview_reconcile(connection: psycopg.AsyncConnection[Any]) -> Reconciliation:
    """Return what `reconcile` would do now, and change nothing. The counts read every message."""
    async with connection.transaction(force_rollback=True):
        identity = await read_identity(connection)
        return await _count(connection, identity, await _choose_remedy(connection, identity))


async def reconcile(
    connection: psycopg.AsyncConnection[Any],
    operation: Operation,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Reconciliation:
    """Repair the cursor and record the operation, in one transaction; return what was done.

    It changes nothing where the database is as it was recorded. It raises InvalidInput while a
    relay leads, and DependencyDown on a standby. Writers wait while messages are rewritten. It
    waits for the transactions of writers no longer than `patience_seconds`; then it raises
    LockNotAvailable and changes nothing.
    """
    async with connection.transaction():
        await connection.execute(SQL["lock_timeout"], [f"{patience_seconds * 1000:.0f}ms"])
        # This is read before the transaction has an id, so the new cursor cannot show that id.
        cursor = await _fetch_one(connection, b"SELECT pg_current_snapshot()::text")
        identity = await _lock(connection)
        found = await _count(connection, identity, await _choose_remedy(connection, identity))
        if found.remedy is Remedy.NOTHING:
            return found
        if found.remedy is not Remedy.FOLLOW:
            await _rewrite_messages(connection, found, cursor[0])
        follows = found.remedy is Remedy.FOLLOW
        await connection.execute(SQL["restart"], {"cursor": None if follows else cursor[0]})
        await record_identity(connection, identity)
        operation.details.update(changes=found.changes, remedy=found.remedy)
        await operation.record(connection)
    return found


async def _lock(connection: psycopg.AsyncConnection[Any]) -> DatabaseIdentity:
    """Keep relays out until the end of this transaction, and writers where ids are replaced."""
    (leading,) = await _fetch_one(connection, SQL["lock_relay"])
    if leading:
        raise InvalidInput(
            "reconcile", "relay", "a relay leads, or has just ended: stop it, or wait for its lease"
        )
    identity = await read_identity(connection)
    if identity.foreign_ids:
        await connection.execute(SQL["lock"])
    return identity


async def _choose_remedy(
    connection: psycopg.AsyncConnection[Any], identity: DatabaseIdentity
) -> Remedy:
    if identity.standby:
        raise DependencyDown("postgres", "this server is a standby, which takes no writes")
    if not identity.foreign_ids:
        return Remedy.FOLLOW if identity.describe_changes() else Remedy.NOTHING
    (drawn_again,) = await _fetch_one(connection, SQL["drawn_again"])
    return Remedy.REPUBLISH if drawn_again else Remedy.RENUMBER


async def _count(
    connection: psycopg.AsyncConnection[Any], identity: DatabaseIdentity, remedy: Remedy
) -> Reconciliation:
    found = Reconciliation(identity.describe_changes(), remedy)
    if remedy is Remedy.NOTHING:
        return found
    published, rest = await _fetch_one(connection, SQL["count"])
    if remedy is Remedy.REPUBLISH:
        return replace(found, to_publish=published + rest)
    return replace(found, published=published, to_publish=rest)


async def _rewrite_messages(
    connection: psycopg.AsyncConnection[Any], found: Reconciliation, cursor: str
) -> None:
    (base,) = await _fetch_one(connection, SQL["base"])
    if found.remedy is Remedy.REPUBLISH:
        await connection.execute(SQL["replace"], {"base": base})
        await connection.execute(SQL["unpark"])
        base += (found.to_publish // 1000 + 1) * 1000
    else:
        await connection.execute(SQL["renumber"], {"cursor": cursor})
    await connection.execute(SQL["set_positions"], {"next": base})
    await connection.execute(SQL["set_ids"])


async def _fetch_one(connection: psycopg.AsyncConnection[Any], statement: bytes) -> tuple[Any, ...]:
    row = await (await connection.execute(statement)).fetchone()
    return tuple(require_relay_row(row))
