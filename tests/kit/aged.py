"""Messages of past days, and a cursor as a relay would have left it (see also past_days.py)."""

import psycopg

from outbox.cursor.database_identity import require_same_identity

PUBLISH = "SELECT outbox.publish(%s, %s, 'test.noted.v1', jsonb_build_object('said', %s::text), %s)"
AGGREGATE = "test.note"

# PostgreSQL moves the row to the partition where it then belongs.
AGE = """
UPDATE outbox.messages SET created_at = created_at - make_interval(days => %s)
WHERE created_at >= date_trunc('day', now(), 'UTC')
"""
ALL_PUBLISHED = """
UPDATE outbox.relay SET cursor = pg_current_snapshot(), upto = NULL, position = 0,
    highest_position = greatest(highest_position, (SELECT max(position) FROM outbox.messages))
"""

Connection = psycopg.AsyncConnection


async def publish(
    connection: Connection, *keys: str, said: str = "so", deletes: bool = False
) -> None:
    """Publish a message of each of these keys today, each in a transaction of its own."""
    for key in keys:
        await connection.execute(PUBLISH, [AGGREGATE, key, said, deletes])


async def publish_aged(connection: Connection, ago: int, *keys: str, deletes: bool = False) -> None:
    """Publish them as if it were so many days ago; no message of today may be there."""
    await publish(connection, *keys, deletes=deletes)
    await connection.execute(AGE, [ago])


async def all_published(connection: Connection) -> None:
    """Move the cursor as if a relay had published all that is committed."""
    await require_same_identity(connection)
    await connection.execute(ALL_PUBLISHED)


async def fetch(connection: Connection, statement: str) -> list[tuple[object, ...]]:
    return await (await connection.execute(statement.encode())).fetchall()


# Each head must have one row here, with the message that the head names; these rows break that.
WRONG = """
SELECT latest.aggregateid, head.version, latest.id FROM outbox.streams AS head
FULL JOIN outbox.latest AS latest USING (aggregatetype, aggregateid)
WHERE latest.id IS NULL OR head.version IS NULL OR outbox.digest(latest.payload) <> head.digest
   OR latest.version <> head.version OR latest.position <> head.position
"""
ONE_EACH = """
SELECT (SELECT count(*) FROM outbox.latest) = (SELECT count(*) FROM outbox.streams),
       NOT EXISTS (SELECT FROM outbox.compacted GROUP BY aggregatetype, aggregateid HAVING count(*)
       > 1)
"""


async def require_latest(connection: Connection) -> None:
    """Assert that outbox.latest has one row a head, with its version, position and digest."""
    assert await fetch(connection, WRONG) == []
    assert await fetch(connection, ONE_EACH) == [(True, True)]
