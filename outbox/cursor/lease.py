"""Lease: who may relay. An owner, a term that only rises, and a deadline.

The row's clock is the database's; ours is monotonic and counts from before the request was sent,
so our deadline is always the earlier one. A process that was stopped past its deadline notices
before its next batch; the one batch that it may already have written is a duplicate, for the next
owner starts at the last acknowledged position.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

import psycopg

from outbox.errors import LeaseLost
from outbox.postgres.deadline import Deadline
from outbox.runtime.failpoints import Failpoint, failpoint

# Taken when it is free, has run out, or is our own from before a reconnect; or when it ends later
# than any lease that began by this clock: then the clock has stepped back since, perhaps by an
# hour, and nobody would publish for as long. (Twice the length, so that small steps, and relays
# that are told different lengths, change nothing.) Should the one that led be alive, its term ends
# at its next statement. The row lock makes two takers take turns, and the second one no longer
# matches.
TAKE = """
UPDATE outbox.relay
SET owner = %(owner)s, term = term + 1,
    expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE name = 'main'
  AND (owner IS NULL OR owner = %(owner)s
       OR NOT expires_at BETWEEN clock_timestamp()
                             AND clock_timestamp() + make_interval(secs => 2 * %(seconds)s))
RETURNING term, ctid::text
"""
# HELD stands where the row is guarded by the term. First it is looked for at the place where it was
# left: its index leads to the oldest version of it, and through all others, of which there are as
# many as updates while somebody holds a snapshot open. Then by name, should anything have moved it.
RENEW = """
UPDATE outbox.relay SET expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE HELD
RETURNING ctid::text
"""
HELD_THERE = "ctid = %(place)s::tid AND name = 'main' AND term = %(term)s"
HELD_ANYWHERE = "name = 'main' AND term = %(term)s"
RELEASE = (
    "UPDATE outbox.relay SET owner = NULL, expires_at = NULL WHERE name = 'main' AND term = %s"
)


class Lease:
    """A term of one relay. `until` is on the monotonic clock, at half of the lease.

    `place` is where the relay's row was when this term wrote it last.
    """

    def __init__(
        self,
        owner: str,
        term: int,
        seconds: float,
        since: float,
        clock: Callable[[], float],
        place: str = "(0,0)",
    ) -> None:
        self.owner, self.term, self.seconds, self.place = owner, term, seconds, place
        self._clock = clock
        self.extend(since)

    async def write(
        self,
        connection: psycopg.AsyncConnection[Any],
        statement: str,
        parameters: dict[str, Any],
    ) -> None:
        """Run what changes the row WHERE HELD and returns its place; LeaseLost if the term is over.

        It extends the lease, from the moment before it is sent. DependencyDown where that is as
        long ago as the lease is long: the term is over by then.
        """
        since = self._clock()
        held = {"seconds": self.seconds, "term": self.term, "place": self.place}
        for condition in (HELD_THERE, HELD_ANYWHERE):
            guarded = statement.replace("HELD", condition).encode()
            async with Deadline(self.seconds):
                rows = await connection.execute(guarded, parameters | held, prepare=True)
                row = await rows.fetchone()
            if row:
                (self.place,) = row
                self.extend(since)
                return
        raise LeaseLost(f"term {self.term} has ended")

    def extend(self, since: float) -> None:
        """The database has extended the lease by a statement sent at `since`."""
        self.until = since + self.seconds / 2

    def remaining(self) -> float:
        return self.until - self._clock()

    def require(self) -> None:
        """Raise LeaseLost unless this term provably goes on."""
        if self.remaining() <= 0:
            raise LeaseLost(f"term {self.term} may have ended")

    async def keep(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Renew once half of the time to the deadline is gone."""
        if self.remaining() > self.seconds / 4:
            return
        await self.write(connection, RENEW, {})
        failpoint(Failpoint.LEASE_RENEWED)

    async def release(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Let the next relay start at once."""
        await connection.execute(RELEASE, [self.term])


async def take_lease(
    connection: psycopg.AsyncConnection[Any],
    owner: str,
    seconds: float,
    clock: Callable[[], float] = monotonic,
) -> Lease | None:
    """A new term for `owner`, or None while another one holds the lease."""
    since = clock()
    rows = await connection.execute(TAKE, {"owner": owner, "seconds": seconds})
    row = await rows.fetchone()
    if row is None:
        return None
    term, place = row
    return Lease(owner, term, seconds, since, clock, place)
