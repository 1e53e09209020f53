"""Logs: structlog to standard error, JSON or console; one line an event, never a payload.

Nobody waits for whoever reads them (`outbox/runtime/log_writer.py`). What libraries say through
Python's own logging goes the same way, and nothing else does (`outbox/runtime/log_handlers.py`);
warnings and uncaught exceptions are lines of log, too (`outbox/runtime/log_hooks.py`). No text from
outside can end a line, forge one, or steer the terminal that shows it.
"""

import atexit
import json
import logging
import os
from collections.abc import Callable
from typing import Any

import structlog

from outbox.escape import escape
from outbox.runtime import log_handlers, log_hooks
from outbox.runtime.log_handlers import OurHandler
from outbox.runtime.log_writer import LogWriter
from outbox.secret import without_secrets

STANDARD_ERROR = 2
QUEUE_BYTES = 1024 * 1024
FLUSH_SECONDS = 2.0  # at the end of the process
STAMP: tuple[structlog.types.Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def _without_secrets(
    _: Any, __: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    """A traceback shows what led to an error, and so the bare answer of a server."""
    if "exception" in event:
        event["exception"] = without_secrets(event["exception"])
    return event


EXCEPTIONS: tuple[structlog.types.Processor, ...] = (
    structlog.processors.format_exc_info,
    _without_secrets,
)
TEXTS = ("exception", "stack")  # of several lines, each indented: none looks like one of log
QUOTED = frozenset(" \t=\r\n\"'")
LIBRARIES = {
    "aiokafka": logging.CRITICAL,  # the errors of these three reach us as exceptions
    "neo4j": logging.CRITICAL,
    "httpx": logging.CRITICAL,
    "uvicorn": logging.ERROR,  # it warns of single requests, whose refusals are lines of ours
}


def configure(log_format: str, level: str, queue_bytes: int = QUEUE_BYTES) -> LogWriter:
    """Set up the logs of a process; call it once, in its main module.

    At most `queue_bytes` wait for whoever reads standard error. Lines beyond that are dropped; a
    line `log lines dropped` says how many, once it is read again. The process's end waits a little
    for what is left.
    """
    renderer = _renderer(log_format)
    writer = LogWriter(STANDARD_ERROR, queue_bytes, lambda lines: _told(renderer, lines))
    atexit.register(writer.flush, FLUSH_SECONDS)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *STAMP,
            *EXCEPTIONS,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=lambda *_: _Lines(writer),
        cache_logger_on_first_use=True,
    )
    _configure_libraries(writer, renderer)
    log_hooks.own(as_json=log_format == "json")
    return writer


class _Lines:
    """What structlog hands its lines to: by the name of their level."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def msg(self, line: str) -> None:
        self._writer.write(f"{line}\n")

    log = debug = info = warning = error = critical = exception = msg


def _configure_libraries(writer: LogWriter, renderer: structlog.types.Processor) -> None:
    handler = OurHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=(structlog.contextvars.merge_contextvars, *STAMP),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *EXCEPTIONS,
                renderer,
            ],
        )
    )
    log_handlers.own(handler)
    for name, least in LIBRARIES.items():
        logging.getLogger(name).setLevel(least)


def _renderer(log_format: str) -> structlog.types.Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer(_to_json)
    shown = structlog.dev.ConsoleRenderer(
        exception_formatter=structlog.dev.plain_traceback, colors=os.isatty(STANDARD_ERROR)
    )
    return lambda logger, name, event: shown(logger, name, _escaped(event))


def _to_json(event: dict[str, Any], *, default: Callable[[Any], Any]) -> str:
    """One line of ASCII that every parser of JSON takes, whatever is in it."""
    try:
        return json.dumps(event, default=default, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # NaN, a key that is a tuple, a circle
        return json.dumps({str(key): _plain(value) for key, value in event.items()})


def _plain(value: object) -> str | int | None:
    return value if isinstance(value, str | int | None) else repr(value)


def _escaped(event: structlog.types.EventDict) -> structlog.types.EventDict:
    return {escape(str(key)): _shown(key, value) for key, value in event.items()}


def _shown(key: str, value: object) -> object:
    if key in TEXTS and isinstance(value, str):
        return "\n".join(f"    {escape(line)}" for line in value.splitlines())
    if isinstance(value, int | float | None):
        return value
    if not isinstance(value, str):
        return escape(repr(value))
    if key != "event" and QUOTED.intersection(value):
        return value  # the renderer writes it as Python does, in quotes and with escapes
    return escape(value.rstrip())


def _told(renderer: structlog.types.Processor, lines: int) -> str:
    """A line about lines that are lost."""
    event: Any = {"event": "log lines dropped", "lines": lines}
    for processor in (*STAMP, renderer):
        event = processor(None, "warning", event)
    return f"{event}\n"
