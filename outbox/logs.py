"""Logs: structlog to standard error, JSON or console; one line an event, never a payload.

Nobody waits for whoever reads them (`outbox/log_writer.py`). What libraries say through Python's
own logging goes the same way.
"""

import atexit
import logging
import os
from typing import Any

import structlog

from outbox.log_writer import LogWriter

STANDARD_ERROR = 2
QUEUE_BYTES = 1024 * 1024
FLUSH_SECONDS = 2.0  # at the end of the process
STAMP: tuple[structlog.types.Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
LIBRARIES = {
    "aiokafka": logging.CRITICAL,  # the errors of these three reach us as exceptions
    "neo4j": logging.CRITICAL,
    "httpx": logging.CRITICAL,
    "uvicorn": logging.WARNING,
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
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=lambda *_: _Lines(writer),
        cache_logger_on_first_use=True,
    )
    _configure_libraries(writer, renderer)
    return writer


class _Lines:
    """What structlog hands its lines to: by the name of their level."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def msg(self, line: str) -> None:
        self._writer.write(f"{line}\n")

    log = debug = info = warning = error = critical = exception = msg


class _Handler(logging.Handler):
    """What Python's own logging hands its records to."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.write(f"{self.format(record)}\n")


def _configure_libraries(writer: LogWriter, renderer: structlog.types.Processor) -> None:
    handler = _Handler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=(structlog.contextvars.merge_contextvars, *STAMP),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    others = [each for each in root.handlers if not isinstance(each, _Handler)]
    root.handlers = [*others, handler]
    for name, least in LIBRARIES.items():
        logging.getLogger(name).setLevel(least)


def _renderer(log_format: str) -> structlog.types.Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        exception_formatter=structlog.dev.plain_traceback, colors=os.isatty(STANDARD_ERROR)
    )


def _told(renderer: structlog.types.Processor, lines: int) -> str:
    """A line about lines that are lost."""
    event: Any = {"event": "log lines dropped", "lines": lines}
    for processor in (*STAMP, renderer):
        event = processor(None, "warning", event)
    return f"{event}\n"
