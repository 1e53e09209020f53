"""What every long-running role shares: a running loop that SIGTERM and Ctrl-C end in order."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from outbox import logs
from outbox.settings import Settings


def run_role(
    settings: Settings, role: Callable[[], Coroutine[Any, Any, None]], stop: Callable[[], None]
) -> None:
    """Run `role` until it returns; a signal calls `stop` once, and a second one cancels it."""
    logs.configure(settings.log_format, settings.log_level)
    asyncio.run(_with_signals(role, stop))


async def _with_signals(
    role: Callable[[], Coroutine[Any, Any, None]], stop: Callable[[], None]
) -> None:
    task = asyncio.ensure_future(role())
    asked = False

    def end() -> None:
        nonlocal asked
        if asked:
            task.cancel()
        asked = True
        stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    await task
