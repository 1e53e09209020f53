"""What an operator does about dead letters: retry, discard, and prune those that are closed.

Retrying and discarding touch only letters with the status dead. What waits behind one follows by
itself, because the consumer that reads its partition redelivers a key's open letters in order, up
to the first dead one.
"""

from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from consumers.dead_letters.listing import SELECTED, LetterSelection
from outbox.operations import Operation
from outbox.postgres.sql_file import read_statements

SQL = read_statements(__file__, selected=SELECTED)


@dataclass(frozen=True, slots=True)
class LetterPreview:
    """How many dead letters would be touched, and how many messages wait behind them."""

    letters: int
    waiting: int


async def preview_repair(
    connection: psycopg.AsyncConnection[Any], selection: LetterSelection
) -> LetterPreview:
    """Count what `retry` and `discard` would touch; nothing is changed."""
    rows = await connection.execute(SQL["preview"], asdict(selection))
    ((letters, waiting),) = await rows.fetchall()
    return LetterPreview(letters, waiting)


async def retry(
    connection: psycopg.AsyncConnection[Any], selection: LetterSelection, operation: Operation
) -> list[int]:
    """Let the consumers try these dead letters again, and then what waits behind them.

    Returns the ids of the letters, in rising order. A letter that fails again is dead again, with
    its attempts added up.
    """
    return await _touch(connection, SQL["retry"], selection, operation)


async def discard(
    connection: psycopg.AsyncConnection[Any], selection: LetterSelection, operation: Operation
) -> list[int]:
    """Never apply these dead letters, and let what waits behind them be redelivered.

    Returns the ids of the letters, in rising order. The row stays, with its bytes; if the same
    message is delivered again and fails, it is skipped.
    """
    return await _touch(connection, SQL["discard"], selection, operation)


async def prune(
    connection: psycopg.AsyncConnection[Any],
    older_than_days: int,
    operation: Operation,
    *,
    dry_run: bool = False,
) -> int:
    """Delete letters that were closed longer ago, and return how many; open ones always stay.

    Weakness: a discarded message is then forgotten; if it is delivered again and fails, it is a
    dead letter again.
    """
    if dry_run:
        rows = await connection.execute(SQL["prune_count"], [older_than_days])
        ((count,),) = await rows.fetchall()
        return int(count)
    async with connection.transaction():
        deleted = (await connection.execute(SQL["prune"], [older_than_days])).rowcount
        operation.details["deleted"] = deleted
        await operation.record(connection)
    return deleted


async def _touch(
    connection: psycopg.AsyncConnection[Any],
    statement: bytes,
    selection: LetterSelection,
    operation: Operation,
) -> list[int]:
    async with connection.transaction():
        rows = await connection.execute(statement, asdict(selection))
        ids = sorted(letter_id for (letter_id,) in await rows.fetchall())
        operation.details["letters"] = ids
        await operation.record(connection)
    return ids
