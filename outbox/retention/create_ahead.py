"""Partitions: the days to come, made ahead, so that no message ever needs the default one."""

from collections.abc import Callable
from time import monotonic
from typing import Any

import psycopg
import structlog

from outbox.settings import Settings

log = structlog.get_logger()

# Its locks are kept until the end of the commit, which so waits for no standby that may be away.
CREATE = """
SELECT outbox.create_partitions(%s)
FROM set_config('synchronous_commit', 'local', true) AS local WHERE local = 'local'
"""
# Somebody else holds a lock for long, makes the same day at this moment, or does not let us:
# later is as good, for the default partition takes what has no day.
LATER = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DuplicateTable,
    psycopg.errors.InsufficientPrivilege,
)


class PartitionCreator:
    """Keeps `partitions_ahead_days` days ahead; looks once every `partitions_check_seconds`."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = monotonic) -> None:
        self._days = settings.partitions_ahead_days
        self._every = settings.partitions_check_seconds
        self._clock = clock
        self._due = clock()

    async def keep(self, connection: psycopg.AsyncConnection[Any]) -> int:
        """How many days were made; none where it was not time to look."""
        if self._clock() < self._due:
            return 0
        self._due = self._clock() + self._every
        try:
            return await create_day_partitions(connection, self._days)
        except LATER as error:
            log.warning("partitions not made yet", error=str(error).splitlines()[0])
            return 0


async def create_day_partitions(connection: psycopg.AsyncConnection[Any], days_ahead: int) -> int:
    """Make the days from today on that are missing; how many. Raises what LATER has."""
    row = await (await connection.execute(CREATE, [days_ahead])).fetchone()
    return int(row[0]) if row else 0
