"""What would break somebody within one major version of a message.

An event is written by today's code and read by an older consumer, and it is kept, to be read again
by newer code in a replay or a rebuild: both schemas must accept what the other one writes. A
command is written by a caller of the old schema and read by the new code, which is deployed first:
only the new schema reads. Within a version fields may be added that nobody must give, and words
may change; nothing else of an event, and of a command what makes it accept more.

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


def breaks_of_command(old: Document, new: Document) -> Iterator[str]:
    """Each break of whoever sends this command as the old schema has it."""
    yield from _moved(old, new)
    lines = [_line(refusal, OLD_DOCUMENTS) for refusal in _of_old_documents(old, new)]
    yield from dict.fromkeys(lines)


def breaks_of_event(old: Document, new: Document) -> Iterator[str]:
    """Each break of a replay of old events by new code, or of an older consumer of new ones."""
    yield from _moved(old, new)
    replay = _of_old_documents(old, new)
    told = {(refusal.path, keyword) for refusal in replay for keyword in _covered(refusal)}
    newer = Comparison(lossless=False).refusals(SchemaNode(new, new), SchemaNode(old, old))
    untold = [refusal for refusal in newer if (refusal.path, refusal.keyword) not in told]
    lines = [_line(refusal, OLD_DOCUMENTS) for refusal in replay]
    lines += [_line(refusal, OLD_READERS) for refusal in untold]
    yield from dict.fromkeys(lines)


def _moved(old: Document, new: Document) -> Iterator[str]:
    before, after = old.get("x-topic"), new.get("x-topic")
    if before != after:
        yield f"x-topic: {before} -> {after} (readers of the old topic would miss it)"


def _of_old_documents(old: Document, new: Document) -> list[Refusal]:
    """A field that the new code would read without counts, too: its data would be lost."""
    return Comparison(lossless=True).refusals(SchemaNode(old, old), SchemaNode(new, new))


def _covered(refusal: Refusal) -> tuple[str, ...]:
    """The keywords of which the other direction need not be told: the field itself is gone."""
    return ("unknown", "required") if refusal.keyword == "unknown" else (refusal.keyword,)


def _line(refusal: Refusal, whom: str) -> str:
    return (
        f"{refusal.path or 'document'}: {_rule(refusal, new_reads=whom == OLD_DOCUMENTS)} ({whom})"
    )


def _rule(refusal: Refusal, *, new_reads: bool) -> str:
    values = (refusal.written, refusal.read)
    before, after = map(_shown, values if new_reads else reversed(values))
    match refusal.keyword:
        case "unknown":
            return "removed" if new_reads else "added"
        case "required":
            return "newly required" if new_reads else "no longer required"
        case "type":
            return f"retyped: {before} -> {after}"
        case keyword:
            return f"{keyword} {before} -> {after}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
