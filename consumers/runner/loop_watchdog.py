"""Heartbeat: how long this process's event loop did not turn.

What computes in the loop keeps the group's heartbeats back; past the session timeout the group
takes its partitions away. So a gap is said before it comes to that.
"""

import asyncio
from time import monotonic

import structlog

log = structlog.get_logger()

BEAT_SECONDS = 0.25
LOUD_SHARE = 0.5  # of a session


class LoopWatchdog:
    """`longest_gap_seconds` is what it has seen so far; gaps of half a session are logged."""

    def __init__(self, session_seconds: float) -> None:
        self.longest_gap_seconds = 0.0
        self._loud_seconds = session_seconds * LOUD_SHARE

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            asleep_since = monotonic()
            await asyncio.sleep(BEAT_SECONDS)
            self._saw(monotonic() - asleep_since - BEAT_SECONDS)

    def _saw(self, gap_seconds: float) -> None:
        self.longest_gap_seconds = max(self.longest_gap_seconds, gap_seconds)
        if gap_seconds >= self._loud_seconds:
            log.warning("event loop was blocked", seconds=round(gap_seconds, 2))
