"""What Python writes to standard error by itself becomes lines of log: warnings and tracebacks.

Hooks that somebody else has set, such as a test or a reporter of errors, stay.
"""

import atexit
import logging
import sys
import threading
from types import TracebackType
from typing import Any

import structlog

from outbox.runtime.logged_stream import LoggedStream


def own(*, as_json: bool) -> None:
    """Take over the hooks that are Python's or Typer's; with `as_json`, standard error itself."""
    logging.captureWarnings(True)
    if sys.excepthook is sys.__excepthook__ or sys.excepthook.__module__.startswith("typer"):
        sys.excepthook = _uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _uncaught_in_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable
    _give_back()
    if as_json and sys.stderr is sys.__stderr__ and sys.stderr is not None:
        sys.stderr = LoggedStream(sys.stderr, _written)
        atexit.register(_give_back)


def _give_back() -> None:
    """Standard error as it was; the line that was begun is written before."""
    if isinstance(sys.stderr, LoggedStream):
        sys.stderr.flush_rest()
        sys.stderr = sys.stderr.original


def _written(line: str) -> None:
    _log().error(line, source="standard error")


def _uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        _log().error("interrupted")
    else:
        _log().critical("uncaught exception", exc_info=(kind, error, traceback))


def _uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_type is SystemExit:
        return
    name = told.thread.name if told.thread else None
    error = told.exc_value or told.exc_type()
    what = (told.exc_type, error, told.exc_traceback)
    _log().critical("uncaught exception", thread=name, exc_info=what)


def _unraisable(told: "sys.UnraisableHookArgs") -> None:
    error = told.exc_value or told.exc_type()
    what = (told.exc_type, error, told.exc_traceback)
    where = told.err_msg or "exception ignored in"
    _log().error(where, object=repr(told.object), exc_info=what)


def _log() -> Any:
    """One that is made now: the settings of the logs may have changed since the last."""
    return structlog.get_logger()
