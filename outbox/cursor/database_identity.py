"""Lineage: the history of a database that the relay's cursor belongs to.

A cursor is made of transaction ids, and those mean something only in the history that counted
them. A restored dump comes with ids of another one: its messages may then wait for ids that lie
years ahead, and new ones pass for published. A promoted standby goes on with the same ids, but may
lack the last commits of the server before it, and say their versions again. A copy beside its
original (CREATE DATABASE ... TEMPLATE) has the same cursor, and would publish the same messages
once more. None of it shows by itself, so the relay compares, at every connect, and halts.

Weakness: a cluster's folder that was copied cold, and is never promoted, is its own double. And
messages that were copied in beside those that are here, with ids that have passed here too, look
as if they were written here.
"""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

from outbox.cursor.cut import PLANS
from outbox.cursor.relay_row import require_relay_row
from outbox.errors import DependencyDown, Halted

REPAIR = 'python -m outbox reconcile --reason "..."'

# One statement, so one snapshot. pg_walfile_name tells the timeline that is written now;
# pg_control_checkpoint tells the old one for a while after a promotion.
# A row that this snapshot shows was written by a transaction that it shows, unless the row was
# copied here with an id of elsewhere. Two probes of an index find the ones that could not be.
INSPECT = """
SELECT pg_is_in_recovery() AS standby,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
       CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer
       END AS timeline,
       known.system_identifier AS known_system_identifier,
       known.timeline AS known_timeline,
       outbox.database_oid()::bigint AS database_oid,
       known.database_oid AS known_database_oid,
       coalesce(known.copied, false) AS copied,
       greatest(pg_snapshot_xmax(relay.cursor), pg_snapshot_xmax(relay.upto))
           > pg_snapshot_xmax(pg_current_snapshot()) AS cursor_ahead,
       EXISTS (SELECT FROM outbox.messages
               WHERE transaction_id >= pg_snapshot_xmax(pg_current_snapshot()))
           OR EXISTS (SELECT FROM outbox.messages WHERE transaction_id = ANY (
                          ARRAY(SELECT pg_snapshot_xip(pg_current_snapshot())))) AS messages_ahead
FROM outbox.relay AS relay
LEFT JOIN (
    SELECT system_identifier, timeline, database_oid::bigint AS database_oid,
           xmin::text::bigint <> (transaction_id::text::numeric % 4294967296) AS copied
    FROM outbox.lineage ORDER BY number DESC LIMIT 1
) AS known ON true
WHERE relay.name = 'main'
"""

# Two that start at once may both try: one is there, and the other finds it so. The oid of the
# database is the column's default.
RECORD = """
INSERT INTO outbox.lineage (number, system_identifier, timeline)
SELECT coalesce(max(number), 0) + 1, %(system_identifier)s, %(timeline)s FROM outbox.lineage
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class DatabaseIdentity:
    """What the database says of itself, beside what was recorded; `timeline` None on a standby."""

    standby: bool
    system_identifier: str
    timeline: int | None
    known_system_identifier: str | None
    known_timeline: int | None
    copied: bool
    cursor_ahead: bool
    messages_ahead: bool
    database_oid: int = 0
    known_database_oid: int | None = 0

    @property
    def recorded(self) -> bool:
        return self.known_system_identifier is not None

    @property
    def foreign_ids(self) -> bool:
        """Transaction ids of another history: they must be replaced before anything is read."""
        return self.copied or self.cursor_ahead or self.messages_ahead

    def describe_changes(self) -> list[str]:
        """What is not as it was recorded, in words; nothing on a first start, or a standby."""
        known, timeline = self.known_system_identifier, self.known_timeline
        said = {
            f"the system identifier was {known} and is {self.system_identifier}": (
                self.recorded and known != self.system_identifier
            ),
            f"the timeline was {timeline} and is {self.timeline}": (
                self.recorded and self.timeline is not None and timeline != self.timeline
            ),
            self._original(): self.of_another_database,
            "the outbox was copied here, as by a restored dump": self.copied,
            "the cursor is ahead of the transactions here": self.cursor_ahead,
            "messages are of transactions that have not been here": self.messages_ahead,
        }
        return [words for words, so in said.items() if so]

    @property
    def of_another_database(self) -> bool:
        """This is a copy, beside which its original may be."""
        return self.recorded and self.database_oid != self.known_database_oid

    def _original(self) -> str:
        """0 is what the migration wrote where it found this database younger than its lineage."""
        known = self.known_database_oid
        was = f"the database's oid was {known}" if known else "the database was another one"
        return f"{was} and is {self.database_oid}: this is a copy, whose original may publish, too"

    def explain_halt(self) -> str | None:
        """Why a relay halts here, and what a person can do; None where it does not."""
        changes = self.describe_changes()
        return f"{'; '.join(changes)}: run `{REPAIR}`" if changes else None


async def read_identity(connection: psycopg.AsyncConnection[Any]) -> DatabaseIdentity:
    """Compare. It reads only, and its plans are forgotten with its transaction."""
    async with (
        connection.transaction(force_rollback=True),
        connection.cursor(row_factory=class_row(DatabaseIdentity)) as cursor,
    ):
        await cursor.execute(PLANS.replace("SET ", "SET LOCAL ").encode())
        await cursor.execute(INSPECT)
        return require_relay_row(await cursor.fetchone())


async def record_identity(
    connection: psycopg.AsyncConnection[Any], identity: DatabaseIdentity
) -> None:
    """From now on this is what the cursor belongs to. Not in a savepoint: see the migration."""
    values = {"system_identifier": identity.system_identifier, "timeline": identity.timeline}
    await connection.execute(RECORD, values)


async def require_original(connection: psycopg.AsyncConnection[Any]) -> None:
    """Halted in a copy: what its original was about to do is not to be done twice."""
    identity = await read_identity(connection)
    if identity.of_another_database:
        raise Halted(identity.explain_halt() or "")


async def require_same_identity(connection: psycopg.AsyncConnection[Any]) -> None:
    """Before a lease is taken: Halted where the history changed, DependencyDown on a standby.

    The first relay of a database records what it finds.
    """
    identity = await read_identity(connection)
    if identity.standby:
        raise DependencyDown("postgres", "this server is a standby, which takes no writes")
    if why := identity.explain_halt():
        raise Halted(why)
    if not identity.recorded:
        await record_identity(connection, identity)
