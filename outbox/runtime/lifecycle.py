"""Lifecycle: runs a role until a signal ends it in order, or a question until its answer."""

import asyncio
import ctypes
import gc
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
import structlog
from pydantic import ValidationError

from outbox.environment.variables import SettingsRefused, broken_rules
from outbox.errors import (
    Halted,
    MessageRejected,
    OutboxError,
    SchemaBehind,
    StoreUnfit,
    translate_errors,
)
from outbox.postgres.connection import connect
from outbox.postgres.foreign_schema import describe_wrong
from outbox.runtime import logs
from outbox.runtime.failpoints import arm
from outbox.runtime.output import EXIT_NOBODY_READS, accept_any_text, complain, discard_output
from outbox.settings import Settings

log = structlog.get_logger()

T = TypeVar("T")

INSIST_SECONDS = 1.0
# mallopt's numbers of two settings: how much free memory the end of the heap may keep, and from
# which size on memory is not taken from the heap.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 32 * 1024 * 1024
EXIT_UNANSWERED = 2  # exit code 1 is an answer: something differs
EXIT_HALTED = 3
# SQLSTATEs of a table, a column, a function or a schema that is missing, or is not ours.
OBJECTS_MISSING = ("42P01", "42703", "42883", "3F000", "42809", "42804")


def run_command(app: Callable[[], None]) -> None:
    """Run a command line; settings that break a rule are named, one a line, with exit code 2."""
    accept_any_text()
    try:
        _require_utf8(sys.argv[1:])
        app()
    except SettingsRefused as error:
        complain(*error.lines)
        sys.exit(EXIT_UNANSWERED)
    except ValidationError as error:
        complain(*broken_rules(error))
        sys.exit(EXIT_UNANSWERED)
    finally:
        _flush()


def _require_utf8(arguments: Sequence[str]) -> None:
    """End with exit code 2 where an argument is not UTF-8.

    Python gives such bytes as lone surrogates, which neither PostgreSQL nor Kafka accepts.
    """
    for number, argument in enumerate(arguments, start=1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            complain(f"argument {number}: must be UTF-8")
            sys.exit(EXIT_UNANSWERED)


def _flush() -> None:
    """Flush standard output before Python does: a reader that has gone would cost a traceback."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        sys.exit(EXIT_NOBODY_READS)
    except OSError:
        discard_output()
        sys.exit(EXIT_UNANSWERED)


def run_role(
    settings: Settings, role: Callable[[], Coroutine[Any, Any, None]], stop: Callable[[], None]
) -> None:
    """Run `role` until it returns.

    The first SIGTERM or Ctrl-C calls `stop`. A role that does not return within
    `stop_timeout_seconds`, because the server that it waits for does not answer, is cancelled; a
    second signal cancels it at once. An error that only an operator can repair is printed as one
    line, and the exit code is 3.
    """
    logs.configure(settings.log_format, settings.log_level, settings.log_queue_bytes)
    arm(settings.failpoints)
    calm_the_collector()
    _keep_freed_memory()
    try:
        asyncio.run(_run_until_signal(role, stop, settings.stop_timeout_seconds))
    except (Halted, StoreUnfit, SchemaBehind) as error:
        _report_halt(settings, str(error))
        sys.exit(EXIT_HALTED)


def _report_halt(settings: Settings, why: str) -> None:
    """Write the reason as a line of log where logs are JSON, else as plain text."""
    if settings.log_format == "json":
        log.critical(why)
    else:
        complain(why)


def calm_the_collector() -> None:
    """Let Python look for cycles every 100,000 new objects instead of every 700.

    Objects that are loaded by now are never looked at. This is for roles, and for questions that
    read as much as roles do: they make millions of short-lived tuples and hardly any cycle, and
    looking for cycles took a third of the relay's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def _keep_freed_memory() -> None:
    """Keep the memory that one page of messages has freed, because the next page needs as much.

    Giving it back to the kernel and asking for it again took a tenth of the relay's time. Only
    glibc has this setting; without it everything works, but slower.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(MMAP_THRESHOLD, KEPT_BYTES)


def answer(settings: Settings, question: Coroutine[Any, Any, T]) -> T:
    """Run a command that answers and ends; an error is one line, and exit code 2."""
    logs.configure(settings.log_format, settings.log_level, settings.log_queue_bytes)
    arm(settings.failpoints)
    try:
        with translate_errors():
            return asyncio.run(question)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except (OutboxError, MessageRejected, psycopg.Error) as error:
        complain(_describe(settings, error))
    sys.exit(EXIT_UNANSWERED)


def _describe(settings: Settings, error: Exception) -> str:
    """Describe an error so that an operator can act on it.

    Where PostgreSQL refused because an object is missing, the text says what is wrong with the
    schema; where a right is missing, whom to grant it to.
    """
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    if not isinstance(cause, psycopg.Error):
        return str(error)
    if (cause.sqlstate or "").startswith(OBJECTS_MISSING) and (found := _describe_schema(settings)):
        return found
    first = next(iter(str(cause).splitlines()), type(cause).__name__)
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        return f"PostgreSQL refused: {first}; grant it to the user of POSTGRES_URL"
    if isinstance(error, psycopg.Error):
        return f"PostgreSQL refused: {first}"
    return str(error)


def _describe_schema(settings: Settings) -> str | None:
    """Return what is wrong with the schema; None where nothing is, or where it cannot be asked."""

    async def ask() -> str | None:
        async with await connect(settings, "command") as connection:
            return await describe_wrong(connection)

    with suppress(psycopg.Error):
        return asyncio.run(ask())
    return None


async def _run_until_signal(
    role: Callable[[], Coroutine[Any, Any, None]], stop: Callable[[], None], patience: float
) -> None:
    """Run the role; the first signal asks it to stop, the second one or `patience` cancels it."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(role())
    asked = asyncio.Event()

    def insist() -> None:
        """Cancel again and again: psycopg answers a first cancellation by asking the server to
        cancel, which may not answer either, and gives up its connection at the second one."""
        if task.cancel():
            loop.call_later(INSIST_SECONDS, insist)

    def request_stop() -> None:
        if asked.is_set():
            task.cancel()
            return
        asked.set()
        stop()
        loop.call_later(patience, insist)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, request_stop)
    with suppress(asyncio.CancelledError):
        await task
    if task.cancelled():
        log.warning("cancelled; what was not finished will be done again")
