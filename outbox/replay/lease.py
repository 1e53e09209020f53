"""ReplayLease: which process runs a replay, and the one statement that moves its checkpoint.

The lease of a row of outbox.replays works like the relay's in outbox.cursor.lease. The row's
deadline is on the database's clock. Ours is monotonic, counts from before the request was sent, and
lies at half of the lease, so it is always the earlier one. A process that was stopped past its
deadline notices before its next batch; the batch that it may have sent already is all duplicates.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

import psycopg

from outbox.cursor.lease import LeaseTime
from outbox.errors import LeaseLost

TAKE = """
UPDATE outbox.replays
SET owner = %(owner)s, term = term + 1,
    expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND status = 'running'
  AND outbox.may_take_lease(owner, expires_at, %(owner)s, %(seconds)s)
RETURNING term
"""
# The term alone guards it: what was sent is recorded although the replay was paused or cancelled
# meanwhile.
KEEP = """
UPDATE outbox.replays
SET position = greatest(position, %(position)s), sent = sent + %(sent)s,
    refused = refused + %(refused)s,
    expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND term = %(term)s
RETURNING status
"""
# All of it was sent. A pause of a moment ago came too late, and is overwritten; a cancellation is
# not.
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


class ReplayLease(LeaseTime):
    """One process's term at one replay. `status` is the replay's, as it was read last."""

    def __init__(
        self,
        connection: psycopg.AsyncConnection[Any],
        replay_id: int,
        term: int,
        seconds: float,
        since: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(seconds, since, clock)
        self.status = "running"
        self._connection = connection
        self._held = {"id": replay_id, "term": term, "seconds": seconds}

    def require(self) -> None:
        """Raise LeaseLost unless this term provably goes on."""
        if self.remaining() <= 0:
            raise LeaseLost("the lease of this replay may have ended")

    async def renew(self) -> None:
        """Extend the lease once half of the time to our deadline is gone."""
        if self.is_due():
            await self.checkpoint(0)

    async def checkpoint(self, position: int, sent: int = 0, refused: int = 0) -> None:
        """Record that all up to `position` is done, read `status`, and extend the lease.

        `sent` and `refused` are added to the counts of the row. Raises LeaseLost where another
        process has taken the replay over.
        """
        since = self._clock()
        values = self._held | {"position": position, "sent": sent, "refused": refused}
        row = await (await self._connection.execute(KEEP, values)).fetchone()
        if row is None:
            raise LeaseLost("another process runs this replay")
        (self.status,) = row
        self.extend(since)

    async def finish(self) -> None:
        """Record that all of it was sent: `status` becomes `done`, or stays `cancelled`.

        Raises LeaseLost where another process has taken the replay over.
        """
        row = await (await self._connection.execute(FINISH, self._held)).fetchone()
        if row is None:
            raise LeaseLost("another process runs this replay")
        (self.status,) = row

    async def release(self) -> None:
        """Give the lease up, so that the next process may start at once."""
        await self._connection.execute(RELEASE, self._held)


async def take_lease(
    connection: psycopg.AsyncConnection[Any], replay_id: int, owner: str, seconds: float
) -> ReplayLease | None:
    """Take the replay's lease for `owner`.

    Returns None while another process holds it, and where the replay is not `running`.
    """
    since = monotonic()
    values = {"id": replay_id, "owner": owner, "seconds": seconds}
    row = await (await connection.execute(TAKE, values)).fetchone()
    return None if row is None else ReplayLease(connection, replay_id, row[0], seconds, since)
