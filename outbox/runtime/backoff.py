"""Backoff: how long to wait after a failure, and which failures to log."""

from collections.abc import Callable
from time import monotonic

STEPS_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
LASTED_SECONDS = 10.0  # a failure after so long does not belong to those before it
LOG_SECONDS = 1.0  # between two failures that are logged


class Backoff:
    """Waits longer after each failure that follows at once, up to the last of STEPS_SECONDS.

    It also decides which failures to log: at most one each LOG_SECONDS, so that an outage of a
    whole night does not fill the log.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._began = clock()
        self._quiet_until = clock()

    def succeeded(self) -> None:
        """Begin anew with the shortest wait."""
        self._failures = 0

    def failed(self) -> float:
        """Return the seconds to wait before the next attempt, which is taken to begin then."""
        now = self._clock()
        if now - self._began >= LASTED_SECONDS:
            self._failures = 0
        wait = STEPS_SECONDS[min(self._failures, len(STEPS_SECONDS) - 1)]
        self._failures += 1
        self._began = now + wait
        return wait

    def may_log(self) -> bool:
        """Return whether this failure is to be logged; if so, it counts as logged."""
        if self._clock() < self._quiet_until:
            return False
        self._quiet_until = self._clock() + LOG_SECONDS
        return True
