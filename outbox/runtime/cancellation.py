"""Ending a task that waits for PostgreSQL, which may be deaf.

psycopg answers a first cancellation by a request of its own, and gives up at a later one.
"""

import asyncio
from contextlib import suppress
from typing import Any

AGAIN_SECONDS = 1.0


async def wait_until_ended(task: asyncio.Future[Any], patience_seconds: float) -> None:
    """Wait that long for its end, then cancel it, again and again; how it ends does not matter.

    For `finally`: whatever ends the caller is on its way up already, and waits for this.
    """
    wait = patience_seconds
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task], timeout=wait)
        if not task.done():
            task.cancel()
            wait = AGAIN_SECONDS
    _ = task.cancelled() or task.exception()  # looked at, or asyncio complains
