"""Lease: which relay may publish. It has an owner, a term that only rises, and a deadline.

The deadline in the database follows the database's clock. The relay's own deadline follows a
monotonic clock that counts from before the request was sent, so it is always the earlier one. A
process that was suspended past its deadline notices that before its next batch. The one batch that
it may already have sent is a duplicate, because the next owner starts at the last acknowledged
position.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

import psycopg

from outbox.errors import LeaseLost
from outbox.postgres.deadline import Deadline
from outbox.postgres.sql_file import read_statements
from outbox.runtime.failpoints import Failpoint, failpoint

# What guards the row by the term. The row is first looked for at the place (ctid) where this term
# wrote it last. Its index would lead to the oldest version of the row and through all later ones,
# and while somebody holds a snapshot open there is one for each update. If the row is not at that
# place, it is looked for by name.
HELD_THERE = b"ctid = %(place)s::tid AND name = 'main' AND term = %(term)s"
HELD_ANYWHERE = b"name = 'main' AND term = %(term)s"


class GuardedStatement(NamedTuple):
    """A statement that changes the row only while the term is held, for both ways to find it."""

    there: bytes
    anywhere: bytes


def read_guarded(module_file: str, name: str) -> GuardedStatement:
    """Return a section of the .sql file beside `module_file` with the guard in place of {held}."""
    return GuardedStatement(
        *(read_statements(module_file, held=held)[name] for held in (HELD_THERE, HELD_ANYWHERE))
    )


SQL = read_statements(__file__, held=HELD_ANYWHERE)
TAKE, RELEASE = SQL["take"], SQL["release"]
RENEW = read_guarded(__file__, "renew")


class LeaseTime:
    """How long a lease of so many seconds certainly goes on, by our monotonic clock.

    `until` is when half of it is over. It counts from `since`, a moment before the statement that
    took or extended the lease was sent.
    """

    def __init__(self, seconds: float, since: float, clock: Callable[[], float]) -> None:
        self.seconds = seconds
        self._clock = clock
        self.extend(since)

    def extend(self, since: float) -> None:
        """Note that the database has extended the lease by a statement sent at `since`."""
        self.until = since + self.seconds / 2

    def remaining(self) -> float:
        """Return for how many seconds the term certainly goes on; not above 0 where it may not."""
        return self.until - self._clock()

    def is_due(self) -> bool:
        """Return whether half of the time to our deadline has passed, so it is time to renew."""
        return self.remaining() <= self.seconds / 4


class Lease(LeaseTime):
    """A term of one relay.

    `place` is the ctid of the relay's row when this term wrote it last.
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
        super().__init__(seconds, since, clock)
        self.owner, self.term, self.place = owner, term, place

    async def write(
        self,
        connection: psycopg.AsyncConnection[Any],
        statement: GuardedStatement,
        parameters: dict[str, Any],
    ) -> None:
        """Run a statement that changes the row and returns its place.

        It extends the lease, counted from the moment before the statement is sent. It raises
        LeaseLost where the term is over, and DependencyDown where the answer takes as long as the
        whole lease, since the term is over by then.
        """
        since = self._clock()
        held = {"seconds": self.seconds, "term": self.term, "place": self.place}
        for guarded in statement:
            async with Deadline(self.seconds):
                rows = await connection.execute(guarded, parameters | held, prepare=True)
                row = await rows.fetchone()
            if row:
                (self.place,) = row
                self.extend(since)
                return
        raise LeaseLost(f"term {self.term} has ended")

    def require(self) -> None:
        """Raise LeaseLost unless it is certain that this term goes on."""
        if self.remaining() <= 0:
            raise LeaseLost(f"term {self.term} may have ended")

    async def renew_when_due(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Renew the lease if half of the time to our deadline has passed."""
        if self.is_due():
            await self.write(connection, RENEW, {})
            failpoint(Failpoint.LEASE_RENEWED)

    async def release(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """End the term, so that the next relay can start at once."""
        await connection.execute(RELEASE, [self.term])


async def take_lease(
    connection: psycopg.AsyncConnection[Any],
    owner: str,
    seconds: float,
    clock: Callable[[], float] = monotonic,
) -> Lease | None:
    """Begin a new term for `owner`; return None while another owner holds the lease."""
    since = clock()
    rows = await connection.execute(TAKE, {"owner": owner, "seconds": seconds})
    row = await rows.fetchone()
    if row is None:
        return None
    term, place = row
    return Lease(owner, term, seconds, since, clock, place)
