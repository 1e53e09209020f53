"""LoopWatchdog: measures how long this process's event loop was blocked.

Work that computes inside the loop delays the heartbeats to the consumer group. When the delay
passes the session timeout, the group takes this member's partitions away. So a gap is logged before
it comes to that.
"""

import asyncio
from time import monotonic

import structlog

log = structlog.get_logger()

BEAT_SECONDS = 0.25
LOUD_SHARE = 0.5  # of a session


class LoopWatchdog:
    """Logs every gap of at least half a session.

    `longest_gap_seconds` is the longest gap so far.
    """

    def __init__(self, session_seconds: float) -> None:
        self.longest_gap_seconds = 0.0
        self._loud_seconds = session_seconds * LOUD_SHARE

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            asleep_since = monotonic()
            await asyncio.sleep(BEAT_SECONDS)
            self._record_gap(monotonic() - asleep_since - BEAT_SECONDS)

    def _record_gap(self, gap_seconds: float) -> None:
        self.longest_gap_seconds = max(self.longest_gap_seconds, gap_seconds)
        if gap_seconds >= self._loud_seconds:
            log.warning("event loop was blocked", seconds=round(gap_seconds, 2))
