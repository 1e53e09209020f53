"""Logs: structlog to standard error, as JSON or for a console; one line an event, never a payload.

No program waits for the reader of its logs (`outbox/runtime/log_writer.py`). Libraries that use
Python's own logging write through the same handler, and no other handler writes to the terminal
(`outbox/runtime/log_handlers.py`). Warnings and uncaught exceptions become lines of log too
(`outbox/runtime/log_hooks.py`). No text from outside can end a line, forge one, or steer the
terminal that shows it.
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
LEVEL_AND_TIME: tuple[structlog.types.Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def _mask_secrets(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Mask secrets in a traceback: it shows the unmasked answer of a server."""
    if "exception" in event:
        event["exception"] = without_secrets(event["exception"])
    return event


EXCEPTIONS: tuple[structlog.types.Processor, ...] = (
    structlog.processors.format_exc_info,
    _mask_secrets,
)
TEXTS = ("exception", "stack")  # their lines are indented, so none looks like a line of log
QUOTED = frozenset(" \t=\r\n\"'")
LIBRARIES = {
    "aiokafka": logging.CRITICAL,  # the errors of these three reach us as exceptions
    "neo4j": logging.CRITICAL,
    "httpx": logging.CRITICAL,
    "uvicorn": logging.ERROR,  # it warns of single requests, and we log their refusals ourselves
}


def configure(log_format: str, level: str, queue_bytes: int = QUEUE_BYTES) -> LogWriter:
    """Set up the logs of a process; call it once, in its main module.

    At most `queue_bytes` wait for the reader of standard error. Lines beyond that are dropped; once
    it reads again, a line `log lines dropped` says how many. The end of the process waits at most
    FLUSH_SECONDS for the lines that are left.
    """
    renderer = _build_renderer(log_format)
    writer = LogWriter(STANDARD_ERROR, queue_bytes, lambda lines: _report_dropped(renderer, lines))
    atexit.register(writer.flush, FLUSH_SECONDS)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *LEVEL_AND_TIME,
            *EXCEPTIONS,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=lambda *_: _Lines(writer),
        cache_logger_on_first_use=True,
    )
    _configure_libraries(writer, renderer)
    log_hooks.install(as_json=log_format == "json")
    return writer


class _Lines:
    """A logger that writes finished lines; structlog calls it by the name of a line's level."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def msg(self, line: str) -> None:
        self._writer.write(f"{line}\n")

    log = debug = info = warning = error = critical = exception = msg


def _configure_libraries(writer: LogWriter, renderer: structlog.types.Processor) -> None:
    handler = OurHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=(structlog.contextvars.merge_contextvars, *LEVEL_AND_TIME),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *EXCEPTIONS,
                renderer,
            ],
        )
    )
    log_handlers.install(handler)
    for name, least in LIBRARIES.items():
        logging.getLogger(name).setLevel(least)


def _build_renderer(log_format: str) -> structlog.types.Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer(_to_json)
    shown = structlog.dev.ConsoleRenderer(
        exception_formatter=structlog.dev.plain_traceback, colors=os.isatty(STANDARD_ERROR)
    )
    return lambda logger, name, event: shown(logger, name, _escape_event(event))


def _to_json(event: dict[str, Any], *, default: Callable[[Any], Any]) -> str:
    """Render an event as one line of ASCII that every JSON parser accepts, whatever is in it."""
    try:
        return json.dumps(event, default=default, allow_nan=False)
    except (
        TypeError,
        ValueError,
        RecursionError,
    ):  # NaN, a key that is a tuple, or a reference to itself
        return json.dumps({str(key): _simplify(value) for key, value in event.items()})


def _simplify(value: object) -> str | int | None:
    return value if isinstance(value, str | int | None) else repr(value)


def _escape_event(event: structlog.types.EventDict) -> structlog.types.EventDict:
    return {escape(str(key)): _escape_value(key, value) for key, value in event.items()}


def _escape_value(key: str, value: object) -> object:
    if key in TEXTS and isinstance(value, str):
        return "\n".join(f"    {escape(line)}" for line in value.splitlines())
    if isinstance(value, int | float | None):
        return value
    if not isinstance(value, str):
        return escape(repr(value))
    if key != "event" and QUOTED.intersection(value):
        return value  # the renderer writes it in quotes and with escapes
    return escape(value.rstrip())


def _report_dropped(renderer: structlog.types.Processor, lines: int) -> str:
    """Return a line of log that says how many lines were dropped."""
    event: Any = {"event": "log lines dropped", "lines": lines}
    for processor in (*LEVEL_AND_TIME, renderer):
        event = processor(None, "warning", event)
    return f"{event}\n"
