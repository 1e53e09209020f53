"""Units of work with the usual bugs, to prove that the sweep of all interleavings sees them."""

from tests.kit.load.units import (
    Connection,
    Keys,
    Unit,
    begin,
    change,
    commit,
    publish_own,
    publish_shared,
)

# The position is drawn, and the message inserted, while somebody else may hold the head.
INSERT = """
INSERT INTO outbox.messages
    (position, id, aggregatetype, aggregateid, type, version, topic, payload)
VALUES (nextval('outbox.positions'), gen_random_uuid(), 'faults.thing', %(key)s,
        'faults.happened.v1', 0, 'faults.thing.events', '{}')
"""
NUMBER = """
WITH head AS (
    INSERT INTO outbox.streams AS head
        (aggregatetype, aggregateid, version, position, digest)
    SELECT aggregatetype, aggregateid, 1, position, ''
    FROM outbox.messages
    WHERE transaction_id = pg_current_xact_id() AND aggregateid = %(key)s
    ON CONFLICT (aggregatetype, aggregateid) DO UPDATE SET
        version = head.version + 1, position = EXCLUDED.position
    RETURNING version
)
UPDATE outbox.messages AS message SET version = head.version
FROM head WHERE transaction_id = pg_current_xact_id() AND aggregateid = %(key)s
"""


async def insert_shared(connection: Connection, keys: Keys) -> None:
    await connection.execute(INSERT, {"key": keys.shared}, prepare=True)


async def number_shared(connection: Connection, keys: Keys) -> None:
    await connection.execute(NUMBER, {"key": keys.shared}, prepare=True)


async def commit_and_begin(connection: Connection, keys: Keys) -> None:
    await commit(connection, keys)
    await begin(connection, keys)


# M16: the shared key's head is locked a step after its message was inserted.
EARLY_MESSAGE = Unit((begin, change(1), publish_own, insert_shared, number_shared, commit), own=1)

# M11: the row is committed, and then its events in a transaction of their own.
SECOND_TRANSACTION = Unit(
    (begin, change(1), commit_and_begin, publish_own, publish_shared, commit), own=1
)
