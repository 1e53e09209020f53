"""RateLimit: at most so many units of work a second."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

SHORTEST_SECONDS = 0.01  # the event loop's clock is not worth less


class RateLimit:
    """Slows the caller down to `per_second` units; with None it never waits.

    Of the time in which nothing was spent, at most `saved_seconds` are made up for. With none, the
    rate is the same after a pause, and the caller's own work comes on top of each wait.
    """

    def __init__(
        self,
        per_second: float | None,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        *,
        saved_seconds: float = 0.0,
    ) -> None:
        self._per_second = per_second
        self._clock = clock
        self._sleep = sleep
        self._saved_seconds = saved_seconds
        self._free = clock()

    async def spend(self, amount: int) -> None:
        """Account for `amount` units that were done, and wait until the next one is allowed."""
        delay = self.delay_after(amount)
        if delay >= SHORTEST_SECONDS:
            await self._sleep(delay)

    def delay_after(self, amount: int) -> float:
        """Account for `amount` units that were done; return the seconds until the next one."""
        if self._per_second is None:
            return 0.0
        now = self._clock()
        self._free = max(self._free, now - self._saved_seconds) + amount / self._per_second
        return max(0.0, self._free - now)
