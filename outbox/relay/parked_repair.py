"""What an operator does about parked keys: list them, release them, or discard a message."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg

from outbox.operations import Operation, describe_given

SELECTED = """
    (%(aggregate)s::text IS NULL OR key.aggregatetype = %(aggregate)s)
    AND (%(key)s::text IS NULL OR key.aggregateid = %(key)s)
    AND (%(topic)s::text IS NULL OR key.topic = %(topic)s)
"""
LIST = f"""
SELECT key.aggregatetype, key.aggregateid, key.topic, key.position, key.reason, key.attempts,
       key.released, key.parked_at, waiting.messages
FROM outbox.parked AS key, LATERAL (
    SELECT count(*) AS messages FROM outbox.parked_messages AS waiting
    WHERE waiting.aggregatetype = key.aggregatetype AND waiting.aggregateid = key.aggregateid
) AS waiting
WHERE {SELECTED} ORDER BY key.parked_at, key.position
"""  # noqa: S608 - constants
# A key that was released already is left to the relay, which may be trying it at this moment.
RELEASE = f"""
UPDATE outbox.parked AS key SET released = true WHERE {SELECTED} AND NOT released
RETURNING aggregatetype, aggregateid, position
"""  # noqa: S608 - constants
DISCARD = """
DELETE FROM outbox.parked_messages
WHERE aggregatetype = %s AND aggregateid = %s AND position = %s
"""


@dataclass(frozen=True, slots=True)
class ParkedSelection:
    """Which parked keys are meant: all of them where every field is None."""

    aggregate: str | None = None
    key: str | None = None
    topic: str | None = None

    def __str__(self) -> str:
        return describe_given(asdict(self))


@dataclass(frozen=True, slots=True)
class ParkedKey:
    """A key that waits, and the refused message; `messages` counts that one, too.

    `position` is that of the refused message, and `attempts` is how often the key was
    parked.
    """

    aggregate: str
    key: str
    topic: str
    position: int
    reason: str
    attempts: int
    released: bool
    parked_at: datetime
    messages: int


async def list_parked(
    connection: psycopg.AsyncConnection[Any], selection: ParkedSelection | None = None
) -> list[ParkedKey]:
    """Return the parked keys of the selection, the oldest first."""
    rows = await connection.execute(LIST.encode(), asdict(selection or ParkedSelection()))
    return [ParkedKey(*row) for row in await rows.fetchall()]


async def release(
    connection: psycopg.AsyncConnection[Any], selection: ParkedSelection, operation: Operation
) -> int:
    """Let the relay try these keys again, from the refused message on; return how many keys."""
    async with connection.transaction():
        return len(await _release(connection, selection, operation))


async def discard(
    connection: psycopg.AsyncConnection[Any], selection: ParkedSelection, operation: Operation
) -> int:
    """Never publish the refused message of these keys; return how many keys.

    The relay then tries what waits behind it. The message itself stays in outbox.messages, and its
    position is recorded in the operation's details.
    """
    async with connection.transaction():
        keys = await _release(connection, selection, operation)
        await connection.cursor().executemany(DISCARD, keys)
    return len(keys)


async def _release(
    connection: psycopg.AsyncConnection[Any], selection: ParkedSelection, operation: Operation
) -> list[tuple[str, str, int]]:
    rows = await connection.execute(RELEASE.encode(), asdict(selection))
    keys = await rows.fetchall()
    operation.details["keys"] = [
        {"aggregate": aggregate, "key": key, "position": position}
        for aggregate, key, position in keys
    ]
    await operation.record(connection)
    return keys
