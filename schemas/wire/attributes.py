"""Attributes: the headers of a record, each read as strictly as its use requires.

The attributes that name a message (`specversion`, `id`, `source`, `type`, `subject`, `time`, the
content type, and the consumer that a replay is for) must be readable, and must not come twice with
different values. Two content types are the same if their media types are; case and parameters do
not count. Any other attribute is dropped if no reader could take it: a broken `traceparent` loses a
trace, not a message. Of several trace contexts the first valid one counts, because instrumentation
adds its own behind ours. A name with capitals counts only where the lower-case name is absent. All
other headers belong to other programs and are ignored.
"""

from collections.abc import Iterable

from schemas.errors import build_rejection
from schemas.extensions import NO_EXTENSIONS, TRACING, Extensions, is_name, keep_readable
from schemas.limits import ATTRIBUTE_BYTES, SEQUENCE_DIGITS, fits_attribute, holds_control
from schemas.strict_json import make_printable
from schemas.trace_context import parse_trace_context
from schemas.wire.media_type import normalize_media_type

Raw = bytes | None

REQUIRED = ("specversion", "id", "source", "type")
USED = frozenset({*REQUIRED, "subject", "time", "content-type", "replayfor"})
NUMBERS = ("sequence", "position", "term")
_BARE = ("content-type", "position", "term", "replayfor", *TRACING)
_IN_CE = (*REQUIRED, "subject", "time", "datacontenttype", *NUMBERS, "replayfor", *TRACING)
# The attribute's name by the header's name.
KNOWN = {name: name for name in _BARE} | {f"ce_{name}": name for name in _IN_CE}
KNOWN["ce_datacontenttype"] = "content-type"


class Attributes:
    """The attributes of one record; of several headers with one name, the first counts.

    Raises MessageRejected where an attribute that names the message comes twice and differs.
    """

    __slots__ = ("_found", "extensions")

    def __init__(self, headers: Iterable[tuple[str, Raw]]) -> None:
        self._found: dict[str, bytes] = {}
        others = []
        for name, raw in headers:
            attribute = KNOWN.get(name)
            if attribute is None:
                others.append((name, raw))
            elif raw is not None and (first := self._found.setdefault(attribute, raw)) is not raw:
                self._handle_repetition(attribute, first, raw)
        self.extensions = self._read_others(others) if others else NO_EXTENSIONS

    def read_strictly(self, name: str) -> str:
        """The attribute's text, '' where it is absent; MessageRejected where it cannot be read."""
        raw = self._found.get(name)
        return "" if raw is None else read_text(name, raw)

    def read_leniently(self, name: str) -> str | None:
        """The attribute's text, None where it is absent or no reader could take it."""
        raw = self._found.get(name)
        return None if raw is None else _text_or_none(raw)

    def _handle_repetition(self, name: str, first: bytes, raw: bytes) -> None:
        if first == raw or (name == "content-type" and _is_same_type(first, raw)):
            return
        if name in USED:
            raise build_rejection("envelope", name, "may appear only once")
        if name in NUMBERS:
            self._found[name] = b""  # nobody can tell which of two numbers is right
        elif name == "traceparent" and read_trace(_text_or_none(first)) is None:
            self._found[name] = raw

    def _read_others(self, others: Iterable[tuple[str, Raw]]) -> Extensions:
        """The extensions; keeps a known attribute, too, whose name has capitals."""
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
    """The text of an attribute that must be readable.

    Raises MessageRejected where it is too long, is not UTF-8, or holds control characters.
    """
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
    """The text itself if it is a trace context as W3C defines it; None for anything else."""
    return text if text is not None and parse_trace_context(text) else None


def read_number(text: str | None) -> int | None:
    """A number as our relay writes it; None for anything else: other senders may use the header."""
    if text and text.isascii() and text.isdigit() and len(text) <= SEQUENCE_DIGITS:
        return int(text)
    return None


def _is_same_type(first: bytes, raw: bytes) -> bool:
    one, other = _text_or_none(first), _text_or_none(raw)
    if one is None or other is None:
        return False
    return normalize_media_type(one) == normalize_media_type(other)


def _text_or_none(raw: bytes) -> str | None:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if fits_attribute(text) else None
