"""Daily partitions are made ahead, so that no message has to go to the default partition."""

from collections.abc import Callable
from time import monotonic
from typing import Any

import psycopg
import structlog

from outbox.settings import Settings

log = structlog.get_logger()

# Its locks are held until the commit ends. So the commit waits for no standby, which may be away.
CREATE = """
SELECT outbox.create_partitions(%s)
FROM set_config('synchronous_commit', 'local', true) AS local WHERE local = 'local'
"""
# Another session holds a lock for long, another one makes the same day at this moment, or we lack
# the right. Later is as good, because the default partition takes messages that have no daily one.
LATER = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DuplicateTable,
    psycopg.errors.InsufficientPrivilege,
)


class PartitionCreator:
    """Makes partitions for `partitions_ahead_days` days, once each `partitions_check_seconds`."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = monotonic) -> None:
        self._days = settings.partitions_ahead_days
        self._every = settings.partitions_check_seconds
        self._clock = clock
        self._due = clock()

    async def create_when_due(self, connection: psycopg.AsyncConnection[Any]) -> int:
        """Make the missing days if it is time to look again; return how many were made.

        0 as well where PostgreSQL did not let it: that is logged, and tried at the next check.
        """
        if self._clock() < self._due:
            return 0
        self._due = self._clock() + self._every
        try:
            return await create_day_partitions(connection, self._days)
        except LATER as error:
            log.warning("partitions not made yet", error=str(error).splitlines()[0])
            return 0


async def create_day_partitions(connection: psycopg.AsyncConnection[Any], days_ahead: int) -> int:
    """Make the missing partitions for today and `days_ahead` days after it; return how many.

    Raises one of LATER where that cannot be done at this moment.
    """
    row = await (await connection.execute(CREATE, [days_ahead])).fetchone()
    return int(row[0]) if row else 0
