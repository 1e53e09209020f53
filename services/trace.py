"""Trace: one id for a request, in its log lines, its problem documents and its messages.

The id is the caller's if the `traceparent` header is valid by W3C Trace Context. Otherwise it is
new: a broken header begins a new trace and is no error.
"""

import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from secrets import token_hex

import structlog
from structlog.contextvars import bound_contextvars

from schemas.strict_json import make_printable
from schemas.trace_context import parse_trace_context

log = structlog.get_logger()

HEADER = b"traceparent"
SAMPLED = 0x01
KNOWN_FLAGS = 0x03  # sampled and random; W3C requires all others to be sent as zero


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace that a request belongs to; `parent_id` is the caller's span.

    We record no spans. So what a request publishes names the caller's span as its parent, which is
    the nearest one that a trace viewer can find.
    """

    trace_id: str
    parent_id: str
    flags: int = SAMPLED  # the default of a new trace

    @property
    def traceparent(self) -> str:
        """The header's value, always of version 00 and 55 characters long."""
        return f"00-{self.trace_id}-{self.parent_id}-{self.flags:02x}"


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def current_trace() -> Trace:
    """The trace of the request that is being answered; outside of any request, a new one."""
    return _current.get() or new_trace()


def new_trace() -> Trace:
    """A trace with random ids."""
    return Trace(token_hex(16), token_hex(8))


def read_trace(headers: Iterable[tuple[bytes, bytes]]) -> Trace:
    """The trace that a request's headers name; a new one where they name none, or more than one."""
    values = [value for name, value in headers if name == HEADER]
    return (_parse(values[0]) if len(values) == 1 else None) or new_trace()


def _parse(value: bytes) -> Trace | None:
    found = parse_trace_context(value.decode("latin-1").strip(" \t"))
    return found and Trace(found.trace_id, found.parent_id, found.flags & KNOWN_FLAGS)


@contextmanager
def tracing(trace: Trace, method: str, path: str) -> Iterator[None]:
    """Make this the current trace inside the block, and name the request in every log line.

    The path is the caller's text, so it is logged short and without control characters.
    """
    token = _current.set(trace)
    try:
        with bound_contextvars(trace_id=trace.trace_id, method=method, path=make_printable(path)):
            yield
    finally:
        _current.reset(token)


def describe_error(error: BaseException) -> dict[str, str]:
    """An unexpected error as log fields: its types and its stack, but not its text.

    The text of a driver's or a validator's error may repeat what a caller has sent. For the same
    reason `format_exc_info` is not used for errors that a request has caused.
    """
    types: list[str] = []
    frames: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(types) < 10:
        types.append(type(cause).__name__)
        frames.append("".join(traceback.format_tb(cause.__traceback__, limit=-20)))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return {"error": " from ".join(types), "where": "\n".join(frames)}
