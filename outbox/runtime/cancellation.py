"""Cancellation of a task that waits for PostgreSQL, which may not answer any more.

psycopg answers a first cancellation by asking the server to cancel, and gives up its connection
only at a later cancellation. So one cancellation is not enough.
"""

import asyncio
from contextlib import suppress
from typing import Any

AGAIN_SECONDS = 1.0


async def wait_until_ended(task: asyncio.Future[Any], patience_seconds: float) -> None:
    """Wait so long for the task to end, then cancel it again and again until it has ended.

    How it ends does not matter: its result or error is dropped. Use it in `finally`: a cancellation
    of the caller does not end the waiting, since one is on its way up already.
    """
    wait = patience_seconds
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task], timeout=wait)
        if not task.done():
            task.cancel()
            wait = AGAIN_SECONDS
    _ = task.cancelled() or task.exception()  # retrieved, so that asyncio does not complain
