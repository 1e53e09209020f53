"""Traces: a trace context to send, and every log line that a request causes."""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from outbox.runtime import logs
from services import dispatcher, problem
from web import header_timeout, traced

Lines = list[MutableMapping[str, Any]]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{SPAN}-01"

# These keep a logger, which may have been made before the test.
MODULES = (header_timeout, problem, dispatcher, traced)


@contextmanager
def capture_lines() -> Iterator[Lines]:
    """Every line that a logger of ours writes, whatever its level, with what it is bound to."""
    capture = LogCapture()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, capture],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        cache_logger_on_first_use=False,
    )
    with pytest.MonkeyPatch.context() as patch:
        for module in MODULES:
            patch.setattr(module, "log", structlog.get_logger())
        yield capture.entries
    logs.configure("console", "error")
