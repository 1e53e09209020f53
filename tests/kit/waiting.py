"""Waiting for what another process does: by looking, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(
    condition: Callable[[], Awaitable[bool]], within_seconds: float, every_seconds: float = 0.1
) -> None:
    """Return once `condition` holds; TimeoutError where it does not in time."""
    async with asyncio.timeout(within_seconds):
        while not await condition():  # noqa: ASYNC110 - no event crosses a process
            await asyncio.sleep(every_seconds)
