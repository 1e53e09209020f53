"""Stored entries: reads what a store of ours holds of a key, and trusts it as little as a message.

Others may write to a store, too: an operator by hand, a script, or another program that shares the
server. So all readers of our stores read each entry by `read_entry`. They get either an entry that
a writer of ours can have put there, or the rule that it breaks. Nothing is assumed of the types.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeGuard
from uuid import UUID, uuid5

from outbox.streams.heads import Entry, StreamKey

# What a store holds of every key, by these names.
ENTRY_FIELDS = ["aggregate", "key", "version", "event_id", "digest", "deleted"]
MAX_VERSION = 2**63 - 1
# Qdrant makes floats of the numbers that it compares, so they are exact up to here.
MAX_FLOAT_VERSION = 2**53
QUOTED_CHARACTERS = 200

_NAMESPACE = UUID("5c75b895-8be5-49ec-ae29-0136bf1d97bd")


class StoredEntry(NamedTuple):
    """A valid entry, and the id of the event that it comes from."""

    entry: Entry
    event_id: str


@dataclass(frozen=True, slots=True)
class ForeignEntry:
    """An entry that no writer of ours can have put there as it is.

    `place` is its id in the store, and `why` is the first rule that it breaks. Both come in part
    from another program, so escape them before you print them.
    """

    place: str
    why: str


@lru_cache(maxsize=4096)  # an apply asks for it three times
def entry_id(stream: StreamKey) -> str:
    """Return the id of a key's entry in a store that needs UUIDs; it never changes."""
    return str(uuid5(_NAMESPACE, f"{stream.aggregate}\n{stream.key}"))


def read_entry(
    values: Mapping[str, Any], aggregates: Container[str], max_version: int = MAX_VERSION
) -> StoredEntry | str:
    """Return the entry that the values make, or the first rule that they break.

    `aggregates` are those that the store follows, and `max_version` the highest version that it
    can compare.
    """
    for name in ("aggregate", "key", "event_id", "digest"):
        if not _is_text(values.get(name)):
            return f"{name} must be a text without NUL, is {_quote(values, name)}"
    version, deleted = values.get("version"), values.get("deleted")
    if type(version) is not int or not 1 <= version <= max_version:
        return f"version must be a whole number from 1 to {max_version}, is " + _quote(
            values, "version"
        )
    if type(deleted) is not bool:
        return f"deleted must be true or false, is {_quote(values, 'deleted')}"
    stream = StreamKey(values["aggregate"], values["key"])
    if stream.aggregate not in aggregates:
        return f"aggregate {_quote(values, 'aggregate')} is not one that this store follows"
    return StoredEntry(Entry(stream, version, values["digest"], deleted), values["event_id"])


def read_entry_at(
    place: str, values: Mapping[str, Any], aggregates: Container[str], max_version: int
) -> StoredEntry | ForeignEntry:
    """Return the entry that the values make, from a store whose ids are those of `entry_id`.

    A ForeignEntry says which rule the values break, or that `place` is the id of another key.
    """
    read = read_entry(values, aggregates, max_version)
    if isinstance(read, str):
        return ForeignEntry(place, read)
    if place != entry_id(read.entry.stream):
        key = read.entry.stream.key[:QUOTED_CHARACTERS]
        return ForeignEntry(place, f"its id is not the one of its key {key}")
    return read


def _is_text(value: object) -> TypeGuard[str]:
    """Return whether it is a text that PostgreSQL takes and that is not empty."""
    if not isinstance(value, str) or not value or "\x00" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _quote(values: Mapping[str, Any], name: str) -> str:
    return repr(values[name])[:QUOTED_CHARACTERS] if name in values else "missing"
