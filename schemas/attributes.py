"""Attributes: the headers of a record, of which each is read as strictly as it is used.

What names a message must be whole and said once, or twice in the same words: `specversion`, `id`,
`source`, `type`, `subject`, `time`, the content type, and whom a replay is for. What only goes with
it is dropped where no reader could take it: a broken `traceparent` loses a trace, not a message.
A content type is its media type, whose case and parameters do not count.
Of several trace contexts the first good one counts (instrumentation adds one to ours). A name with
capitals counts where the proper one is absent. All else is a stranger's and left alone.
"""

import re
from collections.abc import Iterable

from schemas.errors import build_rejection
from schemas.extensions import NO_EXTENSIONS, TRACING, Extensions, is_name, keep_readable
from schemas.limits import ATTRIBUTE_BYTES, SEQUENCE_DIGITS, fits_attribute, holds_control
from schemas.media_type import media_type
from schemas.strict_json import make_printable

Raw = bytes | None

REQUIRED = ("specversion", "id", "source", "type")
USED = frozenset({*REQUIRED, "subject", "time", "content-type", "replayfor"})
NUMBERS = ("sequence", "position", "term")
_BARE = ("content-type", "position", "term", "replayfor", *TRACING)
_IN_CE = (*REQUIRED, "subject", "time", "datacontenttype", *NUMBERS, "replayfor", *TRACING)
# From a header's name to the attribute's.
KNOWN = {name: name for name in _BARE} | {f"ce_{name}": name for name in _IN_CE}
KNOWN["ce_datacontenttype"] = "content-type"

_TRACE = re.compile(
    "(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)


class Attributes:
    """The attributes of one record. The first of each name counts."""

    __slots__ = ("_found", "extensions")

    def __init__(self, headers: Iterable[tuple[str, Raw]]) -> None:
        self._found: dict[str, bytes] = {}
        others = []
        for name, raw in headers:
            attribute = KNOWN.get(name)
            if attribute is None:
                others.append((name, raw))
            elif raw is not None and (first := self._found.setdefault(attribute, raw)) is not raw:
                self._again(attribute, first, raw)
        self.extensions = self._of_others(others) if others else NO_EXTENSIONS

    def used(self, name: str) -> str:
        """Its text, '' where it is absent; MessageRejected where it cannot be read."""
        raw = self._found.get(name)
        return "" if raw is None else read_text(name, raw)

    def carried(self, name: str) -> str | None:
        """Its text, None where it is absent or no reader could take it."""
        raw = self._found.get(name)
        return None if raw is None else _text_or_none(raw)

    def _again(self, name: str, first: bytes, raw: bytes) -> None:
        if first == raw or (name == "content-type" and _is_same_type(first, raw)):
            return
        if name in USED:
            raise build_rejection("envelope", name, "may appear only once")
        if name in NUMBERS:
            self._found[name] = b""  # of two numbers neither is known to be the right one
        elif name == "traceparent" and read_trace(_text_or_none(first)) is None:
            self._found[name] = raw

    def _of_others(self, others: Iterable[tuple[str, Raw]]) -> Extensions:
        """What extends the event, and what is known by another case."""
        found: dict[str, object] = {}
        for name, raw in others:
            lower = name.lower()
            if raw is None:
                continue
            if attribute := KNOWN.get(lower):
                self._found.setdefault(attribute, raw)
            elif lower.startswith("ce_") and is_name(lower[3:]):
                found.setdefault(lower[3:], _text_or_none(raw))
        return keep_readable(found) if found else NO_EXTENSIONS


def read_text(name: str, raw: bytes) -> str:
    """The text of an attribute that is used; MessageRejected where it cannot be shown."""
    name = make_printable(name)
    if len(raw) > ATTRIBUTE_BYTES:
        raise build_rejection(
            "envelope", name, f"must have a value of at most {ATTRIBUTE_BYTES} bytes"
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise build_rejection("envelope", name, "must be UTF-8") from None
    if holds_control(text):
        raise build_rejection("envelope", name, "must not contain control characters")
    return text


def read_trace(text: str | None) -> str | None:
    """A trace context as W3C defines it; None for anything else."""
    return text if text is not None and _TRACE.fullmatch(text) else None


def read_number(text: str | None) -> int | None:
    """A number as our relay writes it; None for anything else, which is the sender's business."""
    if text and text.isascii() and text.isdigit() and len(text) <= SEQUENCE_DIGITS:
        return int(text)
    return None


def _is_same_type(first: bytes, raw: bytes) -> bool:
    one, other = _text_or_none(first), _text_or_none(raw)
    return one is not None and other is not None and media_type(one) == media_type(other)


def _text_or_none(raw: bytes) -> str | None:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if fits_attribute(text) else None
