"""LetterOutcome: what has become of letters that an operator wanted tried again.

The consumer that reads a letter's partition tries it. The functions here only look at the rows
until it has.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import psycopg
from psycopg.rows import class_row

from outbox.runtime.poll_interval import PollInterval

NAMED_LETTERS = 100
REST_SECONDS = 0.5

# The caller has set these letters to `retrying` before, so one that is dead now has failed again.
COUNTS = """
SELECT count(*) FILTER (WHERE status = 'applied') AS applied,
       count(*) FILTER (WHERE status = 'dead') AS dead,
       count(*) FILTER (WHERE status = 'retrying') AS waiting
FROM outbox.dead_letters WHERE id = ANY (%s)
"""
FAILED = """
SELECT id, reason, error, attempts FROM outbox.dead_letters
WHERE id = ANY (%s) AND status = 'dead' ORDER BY id LIMIT %s
"""

Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class FailedAgain:
    """A letter that is dead again, and why; `attempts` counts all that there ever were."""

    id: int
    reason: str
    error: str
    attempts: int


@dataclass(frozen=True, slots=True)
class LetterOutcome:
    """How many letters are applied, dead again, or still wait for a consumer.

    `failed` names at most 100 of those that are dead again. A letter that was discarded or pruned
    meanwhile counts as none of the three.
    """

    applied: int
    dead: int
    waiting: int
    failed: list[FailedAgain] = field(default_factory=list)


async def wait_for_outcome(
    connection: Connection, letters: Sequence[int], within_seconds: float
) -> LetterOutcome:
    """Wait until no letter waits any more or the time is up, and return the state at that moment.

    `letters` are ids. `connection` must be in autocommit.
    """
    until, pace = monotonic() + within_seconds, PollInterval(REST_SECONDS)
    while True:
        row = await (await connection.execute(COUNTS, [list(letters)])).fetchone()
        applied, dead, waiting = row or (0, 0, 0)
        left = until - monotonic()
        if not waiting or left <= 0:
            failed = await _read_failed(connection, letters) if dead else []
            return LetterOutcome(applied, dead, waiting, failed)
        await asyncio.sleep(min(left, pace.after(work=False)))


async def _read_failed(connection: Connection, letters: Sequence[int]) -> list[FailedAgain]:
    async with connection.cursor(row_factory=class_row(FailedAgain)) as cursor:
        await cursor.execute(FAILED, [list(letters), NAMED_LETTERS])
        return await cursor.fetchall()
