"""What every long-running role shares: a running loop that SIGTERM and Ctrl-C end in order."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

from outbox import logs
from outbox.settings import Settings

log = structlog.get_logger()


def run_role(
    settings: Settings, role: Callable[[], Coroutine[Any, Any, None]], stop: Callable[[], None]
) -> None:
    """Run `role` until it returns.

    The first SIGTERM or Ctrl-C calls `stop`; a role that does not return within
    `stop_timeout_seconds`, because what it waits for is deaf, is cancelled, as by a second signal.
    """
    logs.configure(settings.log_format, settings.log_level)
    asyncio.run(_with_signals(role, stop, settings.stop_timeout_seconds))


async def _with_signals(
    role: Callable[[], Coroutine[Any, Any, None]], stop: Callable[[], None], patience: float
) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(role())
    asked = asyncio.Event()

    def end() -> None:
        if asked.is_set():
            task.cancel()
            return
        asked.set()
        stop()
        loop.call_later(patience, task.cancel)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    with suppress(asyncio.CancelledError):
        await task
    if task.cancelled():
        log.warning("cancelled; what was not finished will be done again")
