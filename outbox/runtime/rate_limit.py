"""RateLimit: at most so many units of work a second."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

SHORTEST_SECONDS = 0.01  # the event loop's clock is not worth less


class RateLimit:
    """Slows the caller down to `per_second` units; with None it never waits.

    Time in which nothing was spent is not saved up: after a pause the rate is the same.
    """

    def __init__(
        self,
        per_second: float | None,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._per_second = per_second
        self._clock = clock
        self._sleep = sleep
        self._free = clock()

    async def spend(self, amount: int) -> None:
        """Account for `amount` units that were done, and wait until the next one is allowed."""
        if self._per_second is None:
            return
        now = self._clock()
        self._free = max(self._free, now) + amount / self._per_second
        if self._free - now >= SHORTEST_SECONDS:
            await self._sleep(self._free - now)
