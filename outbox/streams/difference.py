"""Difference: compares the entries of a store with the stream heads, key by key."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from outbox.streams.heads import Entry, StreamKey


@dataclass(frozen=True, slots=True)
class Difference:
    """The keys whose entry in a store is not what the head says; all lists are empty if none is.

    missing: the store has no entry (for a deleted key: no tombstone). stale: the entry has a lower
    version. orphaned: the store has a key without a head. different: the entry has the same version
    with another digest, or a version above the head's. foreign: the ids of entries that no writer
    of ours can have put there as they are (outbox/streams/stored_entries.py).
    """

    missing: list[StreamKey] = field(default_factory=list)
    stale: list[StreamKey] = field(default_factory=list)
    orphaned: list[StreamKey] = field(default_factory=list)
    different: list[StreamKey] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    @property
    def keys(self) -> int:
        """How many keys differ, foreign entries included."""
        keys = (self.missing, self.stale, self.orphaned, self.different)
        return sum(map(len, keys)) + len(self.foreign)

    def add(self, pair: "Pair") -> None:
        """Add the key of the pair to the list of its kind, if it differs."""
        if pair.kind is not None:
            getattr(self, pair.kind).append(pair.stream)


class DifferenceKind(StrEnum):
    """How a key differs; Difference explains each kind."""

    MISSING = "missing"
    STALE = "stale"
    ORPHANED = "orphaned"
    DIFFERENT = "different"
    FOREIGN = "foreign"


class Pair(NamedTuple):
    """The head and the stored entry of one key; None where a side does not have it."""

    head: Entry | None
    stored: Entry | None

    @property
    def stream(self) -> StreamKey:
        entry = self.head or self.stored
        if entry is None:
            raise ValueError("a pair has at least one side")
        return entry.stream

    @property
    def kind(self) -> DifferenceKind | None:
        """How they differ; None where they agree, or where both sides have nothing."""
        if self.head is None:
            return DifferenceKind.ORPHANED if self.stored else None
        if self.stored is None:
            return DifferenceKind.MISSING
        if self.stored.version < self.head.version:
            return DifferenceKind.STALE
        return None if self.stored == self.head else DifferenceKind.DIFFERENT


def compare(heads: Iterable[Entry], stored: Iterable[Entry]) -> Difference:
    """Compare in memory, with about 300 bytes a key. Each side must have a key at most once."""
    difference = Difference()
    store = {entry.stream: entry for entry in stored}
    for head in heads:
        difference.add(Pair(head, store.pop(head.stream, None)))
    difference.orphaned.extend(store)
    return difference


async def merge(heads: AsyncIterable[Entry], stored: Iterable[Entry]) -> AsyncIterator[Pair]:
    """Yield each key of either side once, in order, with the memory of one pair.

    It raises ValueError where a side is out of order or has a key twice, since the pairs would be
    wrong then.
    """
    store = _check_order(stored)
    entry = next(store, None)
    last: StreamKey | None = None
    async for head in heads:
        _require_rising(last, head.stream)
        last = head.stream
        while entry is not None and entry.stream < head.stream:
            yield Pair(None, entry)
            entry = next(store, None)
        if entry is not None and entry.stream == head.stream:
            yield Pair(head, entry)
            entry = next(store, None)
        else:
            yield Pair(head, None)
    while entry is not None:
        yield Pair(None, entry)
        entry = next(store, None)


def _check_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    last: StreamKey | None = None
    for entry in entries:
        _require_rising(last, entry.stream)
        last = entry.stream
        yield entry


def _require_rising(last: StreamKey | None, stream: StreamKey) -> None:
    if last is not None and stream <= last:
        raise ValueError(f"{stream} comes after {last}: out of order, or twice")
