"""How our commands run: roles until a signal ends them in order, questions until the answer."""

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
import structlog

from outbox import logs
from outbox.errors import MessageRejected, OutboxError, translated
from outbox.failpoints import arm
from outbox.settings import Settings

log = structlog.get_logger()

T = TypeVar("T")

INSIST_SECONDS = 1.0
EXIT_UNANSWERED = 2  # 1 is an answer: something differs


def run_role(
    settings: Settings, role: Callable[[], Coroutine[Any, Any, None]], stop: Callable[[], None]
) -> None:
    """Run `role` until it returns.

    The first SIGTERM or Ctrl-C calls `stop`; a role that does not return within
    `stop_timeout_seconds`, because what it waits for is deaf, is cancelled, as by a second signal.
    """
    logs.configure(settings.log_format, settings.log_level)
    arm(settings.failpoints)
    calm_the_collector()
    asyncio.run(_with_signals(role, stop, settings.stop_timeout_seconds))


def calm_the_collector() -> None:
    """Look for cycles once in 100,000 new objects instead of 700, and never among what is loaded.

    For roles, and for questions that read as much: they make millions of short-lived tuples and
    hardly any cycle, and looking for them took a third of the relay's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def answer(settings: Settings, question: Coroutine[Any, Any, T]) -> T:
    """Run a command that answers and ends; what stands in its way is one line and exit code 2."""
    logs.configure(settings.log_format, settings.log_level)
    arm(settings.failpoints)
    try:
        with translated():
            return asyncio.run(question)
    except (OutboxError, MessageRejected) as error:
        sys.stderr.write(f"{error}\n")
    except psycopg.errors.UndefinedTable:
        sys.stderr.write("the database has no outbox; run `python -m services migrate`\n")
    sys.exit(EXIT_UNANSWERED)


async def _with_signals(
    role: Callable[[], Coroutine[Any, Any, None]], stop: Callable[[], None], patience: float
) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(role())
    asked = asyncio.Event()

    def insist() -> None:
        """Again and again: psycopg answers a first cancellation by asking the server for its own,
        which may be deaf too, and gives up its connection at the second one."""
        if task.cancel():
            loop.call_later(INSIST_SECONDS, insist)

    def end() -> None:
        if asked.is_set():
            task.cancel()
            return
        asked.set()
        stop()
        loop.call_later(patience, insist)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    with suppress(asyncio.CancelledError):
        await task
    if task.cancelled():
        log.warning("cancelled; what was not finished will be done again")
