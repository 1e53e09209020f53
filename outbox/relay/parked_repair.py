"""What an operator does about parked keys: list them, release them, or discard a message."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg

from outbox.operations import Operation, describe_given
from outbox.postgres.sql_file import read_statements

SQL = read_statements(__file__)


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
    rows = await connection.execute(SQL["list"], asdict(selection or ParkedSelection()))
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
        await connection.cursor().executemany(SQL["discard"], keys)
    return len(keys)


async def _release(
    connection: psycopg.AsyncConnection[Any], selection: ParkedSelection, operation: Operation
) -> list[tuple[str, str, int]]:
    rows = await connection.execute(SQL["release"], asdict(selection))
    keys = await rows.fetchall()
    operation.details["keys"] = [
        {"aggregate": aggregate, "key": key, "position": position}
        for aggregate, key, position in keys
    ]
    await operation.record(connection)
    return keys
