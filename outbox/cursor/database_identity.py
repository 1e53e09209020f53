"""DatabaseIdentity: whether this database is the one that the relay's cursor belongs to.

A cursor is made of transaction ids, and those mean something only in the history that counted
them. Three things can break that:
- A restored dump brings transaction ids of another history. Its messages may then wait for ids that
  lie years ahead, and new messages look as if they were published.
- A promoted standby goes on with the same ids, but may lack the last commits of the old server. It
  then gives the same versions to other messages.
- A copy beside its original (CREATE DATABASE ... TEMPLATE) has the same cursor, and would publish
  the same messages once more.
None of this raises an error by itself, so the relay compares at every connect, and halts.

Weaknesses: the folder of a cluster that was copied while the server was down, and is never
promoted, cannot be told from its original. And messages that were copied into a database which has
messages already, with transaction ids that have passed here too, look as if they were written here.
"""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

from outbox.cursor.cut import PLANS
from outbox.cursor.relay_row import require_relay_row
from outbox.errors import DependencyDown, Halted
from outbox.postgres.sql_file import read_statements

SQL = read_statements(__file__)

REPAIR = 'python -m outbox reconcile --reason "..."'


# Two relays that start at once may both try: one inserts the row, and the other leaves it as it is.
# The oid of the database is the column's default.
RECORD = """
INSERT INTO outbox.database_identity (number, system_identifier, timeline)
SELECT coalesce(max(number), 0) + 1, %(system_identifier)s, %(timeline)s FROM
outbox.database_identity ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class DatabaseIdentity:
    """What the database says of itself now, beside what was recorded (`known_...`).

    `timeline` is None on a standby; the `known_` fields are None where nothing is recorded yet.
    """

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
        """Whether any relay has recorded an identity here."""
        return self.known_system_identifier is not None

    @property
    def foreign_ids(self) -> bool:
        """Whether there are transaction ids of another history, which must be replaced first."""
        return self.copied or self.cursor_ahead or self.messages_ahead

    def describe_changes(self) -> list[str]:
        """Return in words what is not as it was recorded; an empty list where all of it is.

        On a first start nothing is recorded yet. On a standby the timeline is not compared.
        """
        known, timeline = self.known_system_identifier, self.known_timeline
        differs = {
            f"the system identifier was {known} and is {self.system_identifier}": (
                self.recorded and known != self.system_identifier
            ),
            f"the timeline was {timeline} and is {self.timeline}": (
                self.recorded and self.timeline is not None and timeline != self.timeline
            ),
            self._describe_copy(): self.of_another_database,
            "the outbox was copied here, as by a restored dump": self.copied,
            "the cursor is ahead of the transactions here": self.cursor_ahead,
            "messages are of transactions that have not been here": self.messages_ahead,
        }
        return [words for words, so in differs.items() if so]

    @property
    def of_another_database(self) -> bool:
        """Whether this database is a copy, whose original may still be in use."""
        return self.recorded and self.database_oid != self.known_database_oid

    def _describe_copy(self) -> str:
        """Describe a copied database.

        The recorded oid is 0 where the migration found this database younger than its records.
        """
        known = self.known_database_oid
        was = f"the database's oid was {known}" if known else "the database was another one"
        return f"{was} and is {self.database_oid}: this is a copy, whose original may publish, too"

    def explain_halt(self) -> str | None:
        """Say why a relay halts here and what an operator can do; None where it does not halt."""
        changes = self.describe_changes()
        return f"{'; '.join(changes)}: run `{REPAIR}`" if changes else None


async def read_identity(connection: psycopg.AsyncConnection[Any]) -> DatabaseIdentity:
    """Read what the database is and what was recorded of it.

    It changes nothing, and its planner settings end with its transaction.
    """
    async with (
        connection.transaction(force_rollback=True),
        connection.cursor(row_factory=class_row(DatabaseIdentity)) as cursor,
    ):
        await cursor.execute(PLANS, {"local": True})
        await cursor.execute(SQL["inspect"])
        return require_relay_row(await cursor.fetchone())


async def record_identity(
    connection: psycopg.AsyncConnection[Any], identity: DatabaseIdentity
) -> None:
    """Record that the cursor belongs to this database from now on.

    It must not run in a savepoint, because the row's xmin must be the id of the whole transaction
    (see the migration 0008_database_identity.sql).
    """
    values = {"system_identifier": identity.system_identifier, "timeline": identity.timeline}
    await connection.execute(RECORD, values)


async def require_original(connection: psycopg.AsyncConnection[Any]) -> None:
    """Raise Halted in a copied database: what its original was about to do must happen once."""
    identity = await read_identity(connection)
    if identity.of_another_database:
        raise Halted(identity.explain_halt() or "")


async def require_same_identity(connection: psycopg.AsyncConnection[Any]) -> None:
    """Raise Halted where the history has changed, and DependencyDown on a standby.

    A relay calls this before it takes the lease. The first relay of a database records what it
    finds.
    """
    identity = await read_identity(connection)
    if identity.standby:
        raise DependencyDown("postgres", "this server is a standby, which takes no writes")
    if why := identity.explain_halt():
        raise Halted(why)
    if not identity.recorded:
        await record_identity(connection, identity)
