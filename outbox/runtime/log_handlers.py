"""Log handlers: of the handlers of Python's own logging, only ours writes to the terminal.

A handler that a library or a program adds, to the root or to a logger of its own, would write the
same line a second time and in another form. Handlers on standard output and standard error are
removed, at once and again before each record, since they may be added at any time. Handlers that
write to files, or to a test, stay.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from outbox.runtime.log_writer import LogWriter

STANDARD = (1, 2)


class OurHandler(logging.Handler):
    """The handler that writes the records of Python's own logging to our log."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:
            line = self.format(_build_substitute(record, error))
        self._writer.write(f"{line}\n")


def install(handler: OurHandler) -> None:
    """Let `handler` be the only one that writes to the terminal, from now on."""
    root = logging.getLogger()
    root.handlers = [each for each in root.handlers if not isinstance(each, OurHandler)]
    root.addHandler(handler)
    for name in list(logging.Logger.manager.loggerDict):
        _take_over(name)
    _take_over("root")
    made_by = logging.getLogRecordFactory()
    if not isinstance(made_by, _Guard):
        logging.setLogRecordFactory(_Guard(made_by))
    _Guard.handler = handler


class _Guard:
    """A factory of log records that first removes handlers that would write to the terminal."""

    handler: OurHandler | None = None

    def __init__(self, make: Any) -> None:
        self._make = make

    def __call__(self, *arguments: Any, **named: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._make(*arguments, **named)
        if record.name:
            _take_over(record.name)
            root = logging.getLogger()
            if self.handler is not None and self.handler not in root.handlers:
                root.addHandler(self.handler)
        return record


def _take_over(name: str) -> None:
    """Remove the handlers on a terminal from this logger and from those above it."""
    for logger in _walk_up(name):
        ours = [each for each in logger.handlers if not _writes_to_terminal(each)]
        if len(ours) != len(logger.handlers):
            logger.handlers = ours
            logger.propagate = True  # so that our handler writes its lines instead


def _walk_up(name: str) -> Iterator[logging.Logger]:
    """Yield the loggers that a record of this name passes, up to the root."""
    found = logging.Logger.manager.loggerDict.get(name)
    logger = found if isinstance(found, logging.Logger) else logging.getLogger()
    while logger is not None:
        yield logger
        logger = logger.parent  # type: ignore[assignment] # None above the root


def _writes_to_terminal(handler: logging.Handler) -> bool:
    if isinstance(handler, OurHandler):
        return False
    console = getattr(handler, "console", None)  # an attribute of rich's handler
    stream = getattr(handler, "stream", None) or getattr(console, "file", None)
    if stream is None:
        return False
    if stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        return True
    with suppress(OSError, ValueError, AttributeError, TypeError):
        return _is_standard(stream.fileno())
    return False


def _is_standard(descriptor: int) -> bool:
    """Return whether the descriptor is a standard stream, or the same file as one of them.

    It is the same file with `/dev/stderr`, or where both are sent to one log.
    """
    if descriptor in STANDARD:
        return True
    file = os.fstat(descriptor)
    return any(os.path.samestat(file, os.fstat(each)) for each in STANDARD)


def _build_substitute(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    """Replace a record whose text cannot be made, for example for too few arguments."""
    text = f"{record.msg!r:.300} ({type(error).__name__} while this line was made)"
    place = (record.pathname, record.lineno)
    return logging.LogRecord(record.name, record.levelno, *place, text, (), None)
