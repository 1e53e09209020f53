"""Trace context: the value of the header `traceparent`, as W3C Trace Context defines it."""

import re
from typing import NamedTuple

# Version ff is invalid, and so are ids of zeros. Versions above 00 may have more behind the flags.
_match_context = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-"
    r"(?!0{16})(?P<parent>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?",
    re.DOTALL,
).fullmatch


class TraceContext(NamedTuple):
    """The trace's id and the id of the caller's span, in hex, and the trace's flags."""

    trace_id: str
    parent_id: str
    flags: int


def parse_trace_context(text: str) -> TraceContext | None:
    """Return what the header's value says; None where it is no valid trace context."""
    found = _match_context(text)
    if found is None or (found["version"] == "00" and found["more"]):
        return None
    return TraceContext(found["trace"], found["parent"], int(found["flags"], 16))
