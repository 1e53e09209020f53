"""Interrupt: Ctrl-C, SIGTERM and SIGHUP end the work by one orderly cancellation."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_until_signal(work: Coroutine[Any, Any, None]) -> int:
    """Run `work` and return the exit code: 0, or 128 + the number of the signal that ended it.

    The first signal cancels the work, which then cleans up. Later signals are logged and otherwise
    ignored: cleaning up takes a bounded time, and a half-done one would leave processes and folders
    behind. A kill -9 ends it at once, and the servers with it.
    """
    return asyncio.run(supervise(work))


async def supervise(work: Coroutine[Any, Any, None]) -> int:
    """Run the work as a task, which the first signal cancels, and return the exit code."""
    task = asyncio.create_task(work)
    received: list[signal.Signals] = []

    def receive(number: signal.Signals) -> None:
        log.info("stopping", signal=number.name, already=bool(received))
        if not received:
            task.cancel()
        received.append(number)

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, receive, number)
    try:
        await task
    except asyncio.CancelledError:
        if not received:
            raise
    except Exception as error:
        if not received:
            raise
        log.warning("failed_while_stopping", error=str(error))  # a start that was cut short
    return 128 + received[0] if received else 0
