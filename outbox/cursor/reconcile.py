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


# Writers wait from here to the end. The tables are locked in the order in which writers lock them
# themselves, so there is no deadlock. Meanwhile no row comes or goes, no number is drawn and no
# head is locked: each of the statements below sees all rows that there are.
LOCK = """
LOCK TABLE outbox.streams, outbox.messages, outbox.deliveries, outbox.dead_letters,
           outbox.operations IN SHARE ROW EXCLUSIVE MODE
"""
# Waiting for these locks has a limit. The commit that ends them does not wait for a standby either.
LOCK_TIMEOUT = """
SELECT set_config('lock_timeout', %s, true), set_config('synchronous_commit', 'local', true)
"""
PATIENCE_SECONDS = 30.0

# The lock on this row keeps every relay from taking the lease until the repair is committed.
RELAY = """
SELECT coalesce(expires_at > clock_timestamp(), false) FROM outbox.relay WHERE name = 'main'
"""
# Whether writers here drew positions that had been drawn before. Either the sequence is behind, and
# not new. Or an operator has set it since, but messages that were written here have positions among
# those of the dump, or the order of a key shows it. A message was written here if the hidden xmin
# of all rows of its transaction is the id that they name. (A restored table is one transaction with
# many such ids.)
DRAWN_AGAIN = """
SELECT (SELECT is_called AND last_value + 1000 <= highest FROM outbox.positions)
    OR EXISTS (SELECT FROM outbox.messages GROUP BY xmin
               HAVING min(position) <= relay.highest_position
                  AND bool_and(xmin::text::bigint = transaction_id::text::numeric % 4294967296))
    OR EXISTS (SELECT FROM (
           SELECT position - lag(position) OVER (PARTITION BY aggregatetype, aggregateid
                                                 ORDER BY version) AS step
           FROM outbox.messages) AS message WHERE step <= 0)
FROM outbox.relay,
     LATERAL (SELECT greatest(relay.highest_position, max(position)) AS highest
              FROM outbox.messages) AS held
WHERE relay.name = 'main'
"""

# What the relay had published in the history that the dump comes from: what its cursor shows, and
# what its large cut showed up to the position that it had reached. A message that was written here
# may by accident have an id that the cursor shows, too. But its position was drawn after those of
# the dump, so it is above all positions that the relay had ever passed.
PUBLISHED = """(
    message.position <= relay.highest_position
    AND (pg_visible_in_snapshot(message.transaction_id, relay.cursor)
         OR (relay.upto IS NOT NULL AND message.position <= relay.position
             AND pg_visible_in_snapshot(message.transaction_id, relay.upto)))
)"""
COUNT = f"""
SELECT count(*) FILTER (WHERE {PUBLISHED}), count(*) FILTER (WHERE NOT {PUBLISHED})
FROM outbox.messages AS message, outbox.relay WHERE relay.name = 'main'
"""  # noqa: S608 - constants

# '3' is the first normal transaction id: every snapshot shows it, so no cut will ever hold these
# rows. This transaction took its own id after the new cursor was read, so the cursor does not show
# it, and the next cut does. Published rows whose id the cursor shows anyway stay as they are.
RENUMBER = f"""
UPDATE outbox.messages AS message
SET transaction_id = CASE WHEN {PUBLISHED} THEN '3'::xid8 ELSE pg_current_xact_id() END
FROM outbox.relay
WHERE relay.name = 'main'
  AND NOT ({PUBLISHED}
           AND pg_visible_in_snapshot(message.transaction_id, %(cursor)s::pg_snapshot))
"""  # noqa: S608 - constants

# A version was drawn while the head was locked, so the versions give the true order of a key.
# `reached` is a position that rises with the versions, and otherwise keeps the old order of keys.
REPLACE = """
WITH ordered AS (
    SELECT tableoid, ctid, aggregatetype, aggregateid, version,
           max(position) OVER (PARTITION BY aggregatetype, aggregateid ORDER BY version) AS reached
    FROM outbox.messages
), placed AS (
    SELECT *, %(base)s + row_number() OVER (ORDER BY reached, aggregatetype, aggregateid, version)
              AS place
    FROM ordered
), moved AS (
    UPDATE outbox.messages AS message
    SET position = placed.place, transaction_id = pg_current_xact_id()
    FROM placed WHERE message.tableoid = placed.tableoid AND message.ctid = placed.ctid
)
UPDATE outbox.streams AS head SET position = placed.place
FROM placed
WHERE (head.aggregatetype, head.aggregateid, head.version)
    = (placed.aggregatetype, placed.aggregateid, placed.version)
"""
# All messages are sent again, so what Kafka refuses will be parked again.
UNPARK = "DELETE FROM outbox.parked_messages; DELETE FROM outbox.parked"

# A multiple of the step of the sequence (1000) that is above all positions there are.
BASE = """
SELECT (greatest(highest_position, (SELECT max(position) FROM outbox.messages)) / 1000 + 1) * 1000
FROM outbox.relay WHERE name = 'main'
"""
# A restore of data alone may leave sequences behind; none is ever set back. Everybody who draws
# from them waits for the lock on a table, so nothing is drawn in between.
SET_POSITIONS = """
SELECT setval('outbox.positions', %(next)s::bigint, false) FROM outbox.positions
WHERE last_value < %(next)s::bigint
"""
SET_IDS = """
SELECT setval(sequence, highest) FROM (
    SELECT pg_get_serial_sequence('outbox.deliveries', 'id') AS sequence, max(id) AS highest
    FROM outbox.deliveries
    UNION ALL
    SELECT pg_get_serial_sequence('outbox.dead_letters', 'id'), max(id) FROM outbox.dead_letters
    UNION ALL
    SELECT pg_get_serial_sequence('outbox.operations', 'id'), max(id) FROM outbox.operations
) AS numbered
WHERE highest > coalesce(pg_sequence_last_value(sequence), 0)
"""
# The higher term fences off a relay that led before.
RESTART = """
UPDATE outbox.relay
SET cursor = coalesce(%(cursor)s::pg_snapshot, cursor),
    upto = CASE WHEN %(cursor)s::text IS NULL THEN upto END,
    position = CASE WHEN %(cursor)s::text IS NULL THEN position ELSE 0 END,
    term = term + 1, owner = NULL, expires_at = NULL
WHERE name = 'main'
"""


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
        await connection.execute(LOCK_TIMEOUT, [f"{patience_seconds * 1000:.0f}ms"])
        # This is read before the transaction has an id, so the new cursor cannot show that id.
        cursor = await _fetch_one(connection, "SELECT pg_current_snapshot()::text")
        identity = await _lock(connection)
        found = await _count(connection, identity, await _choose_remedy(connection, identity))
        if found.remedy is Remedy.NOTHING:
            return found
        if found.remedy is not Remedy.FOLLOW:
            await _rewrite_messages(connection, found, cursor[0])
        follows = found.remedy is Remedy.FOLLOW
        await connection.execute(RESTART, {"cursor": None if follows else cursor[0]})
        await record_identity(connection, identity)
        operation.details.update(changes=found.changes, remedy=found.remedy)
        await operation.record(connection)
    return found


async def _lock(connection: psycopg.AsyncConnection[Any]) -> DatabaseIdentity:
    """Keep relays out until the end of this transaction, and writers where ids are replaced."""
    (leading,) = await _fetch_one(connection, RELAY + "FOR UPDATE")
    if leading:
        raise InvalidInput(
            "reconcile", "relay", "a relay leads, or has just ended: stop it, or wait for its lease"
        )
    identity = await read_identity(connection)
    if identity.foreign_ids:
        await connection.execute(LOCK)
    return identity


async def _choose_remedy(
    connection: psycopg.AsyncConnection[Any], identity: DatabaseIdentity
) -> Remedy:
    if identity.standby:
        raise DependencyDown("postgres", "this server is a standby, which takes no writes")
    if not identity.foreign_ids:
        return Remedy.FOLLOW if identity.describe_changes() else Remedy.NOTHING
    (drawn_again,) = await _fetch_one(connection, DRAWN_AGAIN)
    return Remedy.REPUBLISH if drawn_again else Remedy.RENUMBER


async def _count(
    connection: psycopg.AsyncConnection[Any], identity: DatabaseIdentity, remedy: Remedy
) -> Reconciliation:
    found = Reconciliation(identity.describe_changes(), remedy)
    if remedy is Remedy.NOTHING:
        return found
    published, rest = await _fetch_one(connection, COUNT)
    if remedy is Remedy.REPUBLISH:
        return replace(found, to_publish=published + rest)
    return replace(found, published=published, to_publish=rest)


async def _rewrite_messages(
    connection: psycopg.AsyncConnection[Any], found: Reconciliation, cursor: str
) -> None:
    (base,) = await _fetch_one(connection, BASE)
    if found.remedy is Remedy.REPUBLISH:
        await connection.execute(REPLACE, {"base": base})
        await connection.execute(UNPARK)
        base += (found.to_publish // 1000 + 1) * 1000
    else:
        await connection.execute(RENUMBER.encode(), {"cursor": cursor})
    await connection.execute(SET_POSITIONS, {"next": base})
    await connection.execute(SET_IDS)


async def _fetch_one(connection: psycopg.AsyncConnection[Any], statement: str) -> tuple[Any, ...]:
    row = await (await connection.execute(statement.encode())).fetchone()
    return tuple(require_relay_row(row))
