"""Status: how far publishing is and what waits, for an operator or a monitor."""

from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row
from pydantic import BaseModel

from outbox.cursor.cut import Snapshot
from outbox.cursor.database_identity import read_identity
from outbox.cursor.relay_row import require_relay_row

# Pending is what the present snapshot shows and the cursor does not. Inside a large cut, only what
# follows the last acknowledged position counts. There is one index probe for each transaction that
# was running at the cursor.
PENDING = """
    SELECT count(*) AS messages, min(created_at) AS oldest
    FROM outbox.messages
    WHERE (transaction_id >= %(xmax)s::xid8 OR transaction_id = ANY (%(running)s::xid8[]))
      AND NOT (%(upto)s::pg_snapshot IS NOT NULL
               AND pg_visible_in_snapshot(transaction_id, %(upto)s::pg_snapshot)
               AND position <= %(position)s)
"""
RELAY = """
    SELECT cursor::text, upto::text, position, published, term, owner,
           coalesce(expires_at > clock_timestamp(), false) AS leading
    FROM outbox.relay WHERE name = 'main'
"""
COUNTS = """
    SELECT (SELECT count(*) FROM outbox.streams) AS streams,
           (SELECT count(*) FROM outbox.streams WHERE NOT deleted) AS live_streams,
           (SELECT count(*) FROM outbox.dead_letters WHERE status = 'dead') AS dead_letters,
           (SELECT count(*) FROM outbox.parked) AS unpublished_keys,
           (SELECT count(*) FROM outbox.parked_messages) AS unpublished_messages,
           (SELECT count(DISTINCT (consumer, stream)) FROM outbox.open_letters
            WHERE stream IS NOT NULL) AS parked_keys,
           clock_timestamp() AS now
"""


class Status(BaseModel):
    """The state of the outbox; all figures are of one snapshot, and durations are in seconds.

    `parked_keys` and `dead_letters` are those of consumers. `unpublished_keys` counts the keys that
    the relay has parked, and `unpublished_messages` counts their messages. `halted` says why a
    relay would publish nothing here, and is None where it would publish.
    """

    pending: int
    oldest_pending_age_seconds: float
    published: int
    streams: int
    live_streams: int
    dead_letters: int
    parked_keys: int
    unpublished_keys: int
    unpublished_messages: int
    relay_leading: bool
    relay_owner: str | None
    relay_term: int
    halted: str | None


async def read_status(connection: psycopg.AsyncConnection[Any]) -> Status:
    """Read the status in one read-only transaction.

    It counts the pending messages and the stream heads, so it takes longer the more there are. It
    raises LookupError where outbox.relay has lost its row.
    """
    async with (
        connection.transaction(),
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        await cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        relay = await _fetch_one(cursor, RELAY, {})
        pending = await _fetch_one(cursor, PENDING, build_pending_parameters(relay))
        counts = await _fetch_one(cursor, COUNTS, {})
        identity = await read_identity(connection)
    return Status(
        pending=pending["messages"],
        oldest_pending_age_seconds=_measure_age(pending["oldest"], counts["now"]),
        published=relay["published"],
        streams=counts["streams"],
        live_streams=counts["live_streams"],
        dead_letters=counts["dead_letters"],
        parked_keys=counts["parked_keys"],
        unpublished_keys=counts["unpublished_keys"],
        unpublished_messages=counts["unpublished_messages"],
        relay_leading=relay["leading"],
        relay_owner=relay["owner"],
        relay_term=relay["term"],
        halted=identity.explain_halt(),
    )


async def _fetch_one(
    cursor: psycopg.AsyncCursor[dict[str, Any]], statement: str, parameters: dict[str, Any]
) -> dict[str, Any]:
    await cursor.execute(statement.encode(), parameters)
    return require_relay_row(await cursor.fetchone())


def build_pending_parameters(relay: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of PENDING, from the row that RELAY selects."""
    cursor = Snapshot.parse(relay["cursor"])
    return cursor.build_parameters() | {"upto": relay["upto"], "position": relay["position"]}


def _measure_age(oldest: datetime | None, now: datetime) -> float:
    return (now - oldest).total_seconds() if oldest else 0.0
