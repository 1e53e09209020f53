"""Backoff: how long to wait after a failure, and when to say so."""

from collections.abc import Callable
from time import monotonic

STEPS_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
LASTED_SECONDS = 10.0  # an attempt that held for so long was none of those before it
TELL_SECONDS = 1.0


class Backoff:
    """Longer after each failure that follows at once. It also tells which failures to log.

    What is broken for a night is said once a second at most, and what is broken for a moment only
    is tried again within one.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._began = clock()
        self._quiet_until = clock()

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> float:
        """Seconds to wait before the next attempt, which begins then."""
        now = self._clock()
        if now - self._began >= LASTED_SECONDS:
            self._failures = 0
        wait = STEPS_SECONDS[min(self._failures, len(STEPS_SECONDS) - 1)]
        self._failures += 1
        self._began = now + wait
        return wait

    def may_tell(self) -> bool:
        """Whether this failure is to be logged."""
        if self._clock() < self._quiet_until:
            return False
        self._quiet_until = self._clock() + TELL_SECONDS
        return True
