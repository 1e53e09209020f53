"""ReplayTurn: which process is at a replay, and the one statement that moves its checkpoint.

As outbox.cursor.lease: the row's clock is the database's, ours counts from before the request, to
half of the lease. A process that was stopped past its turn can only have repeated a batch of
duplicates.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

import psycopg

from outbox.errors import LeaseLost

# Free, or run out, or ending later than any that began by this clock (outbox.cursor.lease says
# why).
TAKE = """
UPDATE outbox.replays
SET owner = %(owner)s, term = term + 1,
    expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND status = 'running'
  AND (owner IS NULL
       OR NOT expires_at BETWEEN clock_timestamp()
                             AND clock_timestamp() + make_interval(secs => 2 * %(seconds)s))
RETURNING term
"""
# Guarded by the term alone: what was sent is recorded though it was paused or cancelled meanwhile.
KEEP = """
UPDATE outbox.replays
SET position = greatest(position, %(position)s), sent = sent + %(sent)s,
    refused = refused + %(refused)s,
    expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND term = %(term)s
RETURNING status
"""
# All of it was sent: whoever paused it a moment ago was too late, and whoever cancelled it was not.
FINISH = """
UPDATE outbox.replays
SET status = CASE status WHEN 'cancelled' THEN status ELSE 'done' END,
    ended_at = coalesce(ended_at, clock_timestamp()), owner = NULL, expires_at = NULL
WHERE id = %(id)s AND term = %(term)s
RETURNING status
"""
RELEASE = """
UPDATE outbox.replays SET owner = NULL, expires_at = NULL WHERE id = %(id)s AND term = %(term)s
"""


class ReplayLease:
    """A term of one process at one replay; `status` is the replay's, as it was last written."""

    def __init__(
        self,
        connection: psycopg.AsyncConnection[Any],
        replay_id: int,
        term: int,
        seconds: float,
        since: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.status = "running"
        self._connection = connection
        self._held = {"id": replay_id, "term": term, "seconds": seconds}
        self._seconds = seconds
        self._clock = clock
        self._until = since + seconds / 2

    def remaining(self) -> float:
        return self._until - self._clock()

    def require(self) -> None:
        """Raise LeaseLost unless this turn provably goes on."""
        if self.remaining() <= 0:
            raise LeaseLost("the turn at this replay may have ended")

    async def renew(self) -> None:
        """Once half of the time is gone."""
        if self.remaining() <= self._seconds / 4:
            await self.checkpoint(0)

    async def checkpoint(self, position: int, sent: int = 0, refused: int = 0) -> None:
        """All up to `position` is done; LeaseLost where another process is at it."""
        since = self._clock()
        values = self._held | {"position": position, "sent": sent, "refused": refused}
        row = await (await self._connection.execute(KEEP, values)).fetchone()
        if row is None:
            raise LeaseLost("another process is at this replay")
        (self.status,) = row
        self._until = since + self._seconds / 2

    async def finish(self) -> None:
        """All of it was sent; `status` is what it is then. LeaseLost where another is at it."""
        row = await (await self._connection.execute(FINISH, self._held)).fetchone()
        if row is None:
            raise LeaseLost("another process is at this replay")
        (self.status,) = row

    async def release(self) -> None:
        """Let the next process start at once."""
        await self._connection.execute(RELEASE, self._held)


async def take_lease(
    connection: psycopg.AsyncConnection[Any], replay_id: int, owner: str, seconds: float
) -> ReplayLease | None:
    """A turn for `owner`; None while another process has it, or the replay is not to be run."""
    since = monotonic()
    values = {"id": replay_id, "owner": owner, "seconds": seconds}
    row = await (await connection.execute(TAKE, values)).fetchone()
    return None if row is None else ReplayLease(connection, replay_id, row[0], seconds, since)
