"""Check: which changes of a message would break somebody within one major version.

An event is written by today's code and read by an older consumer. It is also stored, and read again
by newer code in a replay or a rebuild. So each schema must accept what the other one writes. A
command is written by a caller with the old schema and read by the new code, which is deployed
first; so only the new schema reads. Within a major version an event may gain optional fields, and
its descriptions may change, but nothing else; a command may also come to accept more.

Each break is one line: the path of the field, the keyword with both its values, and whom it breaks.
"""

import json
from collections.abc import Iterator
from typing import Any

from schemas.compatibility.alternatives import SchemaNode
from schemas.compatibility.inclusion import Comparison
from schemas.compatibility.refusal import Refusal

Document = dict[str, Any]

OLD_DOCUMENTS = "the new schema would refuse documents of the old one"
OLD_READERS = "readers of the old schema would refuse new documents"
SHOWN_CHARACTERS = 60  # of a value, such as a long pattern


def find_command_breaks(old: Document, new: Document) -> Iterator[str]:
    """Each change that breaks callers who send this command by the old schema, as a line."""
    yield from _compare_topics(old, new)
    lines = [_format_line(refusal, OLD_DOCUMENTS) for refusal in _find_refused_old(old, new)]
    yield from dict.fromkeys(lines)


def find_event_breaks(old: Document, new: Document) -> Iterator[str]:
    """Each change that breaks a replay of old events or an older consumer, as a line."""
    yield from _compare_topics(old, new)
    replay = _find_refused_old(old, new)
    reported = {(refusal.path, keyword) for refusal in replay for keyword in _list_covered(refusal)}
    newer = Comparison(lossless=False).find_refusals(SchemaNode(new, new), SchemaNode(old, old))
    unreported = [refusal for refusal in newer if (refusal.path, refusal.keyword) not in reported]
    lines = [_format_line(refusal, OLD_DOCUMENTS) for refusal in replay]
    lines += [_format_line(refusal, OLD_READERS) for refusal in unreported]
    yield from dict.fromkeys(lines)


def _compare_topics(old: Document, new: Document) -> Iterator[str]:
    before, after = old.get("x-topic"), new.get("x-topic")
    if before != after:
        yield f"x-topic: {before} -> {after} (readers of the old topic would miss it)"


def _find_refused_old(old: Document, new: Document) -> list[Refusal]:
    """Why the new schema may refuse old documents; a field that it ignores counts as refused."""
    return Comparison(lossless=True).find_refusals(SchemaNode(old, old), SchemaNode(new, new))


def _list_covered(refusal: Refusal) -> tuple[str, ...]:
    """The keywords that the other direction need not report again, since the field is gone."""
    return ("unknown", "required") if refusal.keyword == "unknown" else (refusal.keyword,)


def _format_line(refusal: Refusal, whom: str) -> str:
    rule = _format_rule(refusal, new_reads=whom == OLD_DOCUMENTS)
    return f"{refusal.path or 'document'}: {rule} ({whom})"


def _format_rule(refusal: Refusal, *, new_reads: bool) -> str:
    values = (refusal.written, refusal.read)
    before, after = map(_show, values if new_reads else reversed(values))
    match refusal.keyword:
        case "unknown":
            return "removed" if new_reads else "added"
        case "required":
            return "newly required" if new_reads else "no longer required"
        case "type":
            return f"retyped: {before} -> {after}"
        case keyword:
            return f"{keyword} {before} -> {after}"


def _show(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
