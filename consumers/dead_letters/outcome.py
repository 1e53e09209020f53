"""LetterOutcome: what has become of letters that a person wanted tried again.

The consumer that reads a letter's partition tries it; here the rows are looked at until it has.
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

# Whoever asks has set them to `retrying` before, so one that is dead now has failed again.
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
    """A letter that is dead again, and why; `attempts` are all that there were."""

    id: int
    reason: str
    error: str
    attempts: int


@dataclass(frozen=True, slots=True)
class LetterOutcome:
    """How many are applied, dead again, or still wait for a consumer; some of the dead ones.

    One that was discarded or pruned meanwhile counts as none of them.
    """

    applied: int
    dead: int
    waiting: int
    failed: list[FailedAgain] = field(default_factory=list)


async def wait_for_outcome(
    connection: Connection, letters: Sequence[int], within_seconds: float
) -> LetterOutcome:
    """Once none waits any more, or the time is up; `connection` is in autocommit."""
    until, pace = monotonic() + within_seconds, PollInterval(REST_SECONDS)
    while True:
        row = await (await connection.execute(COUNTS, [list(letters)])).fetchone()
        applied, dead, waiting = row or (0, 0, 0)
        left = until - monotonic()
        if not waiting or left <= 0:
            failed = await _failed(connection, letters) if dead else []
            return LetterOutcome(applied, dead, waiting, failed)
        await asyncio.sleep(min(left, pace.after(work=False)))


async def _failed(connection: Connection, letters: Sequence[int]) -> list[FailedAgain]:
    async with connection.cursor(row_factory=class_row(FailedAgain)) as cursor:
        await cursor.execute(FAILED, [list(letters), NAMED_LETTERS])
        return await cursor.fetchall()
