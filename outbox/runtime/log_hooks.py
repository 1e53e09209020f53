"""Log hooks: warnings and tracebacks, which Python writes by itself, become lines of log.

Hooks that somebody else has set, such as a test or an error reporter, stay as they are.
"""

import atexit
import logging
import sys
import threading
from types import TracebackType
from typing import Any

import structlog

from outbox.runtime.logged_stream import LoggedStream


def install(*, as_json: bool) -> None:
    """Replace the hooks that are Python's or Typer's; with `as_json`, standard error too."""
    logging.captureWarnings(True)
    if sys.excepthook is sys.__excepthook__ or sys.excepthook.__module__.startswith("typer"):
        sys.excepthook = _log_uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _log_uncaught_in_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _log_unraisable
    _give_back()
    if as_json and sys.stderr is sys.__stderr__ and sys.stderr is not None:
        sys.stderr = LoggedStream(sys.stderr, _log_written)
        atexit.register(_give_back)


def _give_back() -> None:
    """Restore standard error, after writing a line that was begun."""
    if isinstance(sys.stderr, LoggedStream):
        sys.stderr.flush_rest()
        sys.stderr = sys.stderr.original


def _log_written(line: str) -> None:
    _log().error(line, source="standard error")


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        _log().error("interrupted")
    else:
        _log().critical("uncaught exception", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(raised: threading.ExceptHookArgs) -> None:
    if raised.exc_type is SystemExit:
        return
    name = raised.thread.name if raised.thread else None
    error = raised.exc_value or raised.exc_type()
    what = (raised.exc_type, error, raised.exc_traceback)
    _log().critical("uncaught exception", thread=name, exc_info=what)


def _log_unraisable(raised: "sys.UnraisableHookArgs") -> None:
    error = raised.exc_value or raised.exc_type()
    what = (raised.exc_type, error, raised.exc_traceback)
    where = raised.err_msg or "exception ignored in"
    _log().error(where, object=repr(raised.object), exc_info=what)


def _log() -> Any:
    """Return a new logger, since the settings of the logs may have changed since the last one."""
    return structlog.get_logger()
