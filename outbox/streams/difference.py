"""Difference: what a store shows, compared with the stream heads, key by key."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from outbox.streams.heads import Entry, StreamKey


@dataclass(frozen=True, slots=True)
class Difference:
    """Which keys of a store do not show what the heads say; empty when they agree.

    missing: the store has nothing (for a deleted key: no tombstone). stale: a lower version.
    orphaned: the store has a key without a head. different: the same version with another digest,
    or a version above the head's. foreign: the ids of entries that no writer of ours can have put
    there as they are (outbox/streams/stored_entries.py).
    """

    missing: list[StreamKey] = field(default_factory=list)
    stale: list[StreamKey] = field(default_factory=list)
    orphaned: list[StreamKey] = field(default_factory=list)
    different: list[StreamKey] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    @property
    def keys(self) -> int:
        keys = (self.missing, self.stale, self.orphaned, self.different)
        return sum(map(len, keys)) + len(self.foreign)

    def add(self, pair: "Pair") -> None:
        """Put the key where it belongs, if it differs."""
        if pair.kind is not None:
            getattr(self, pair.kind).append(pair.stream)


class DifferenceKind(StrEnum):
    """How a key differs; see Difference."""

    MISSING = "missing"
    STALE = "stale"
    ORPHANED = "orphaned"
    DIFFERENT = "different"
    FOREIGN = "foreign"


class Pair(NamedTuple):
    """What both sides say of one key; None where a side does not have it."""

    head: Entry | None
    shown: Entry | None

    @property
    def stream(self) -> StreamKey:
        entry = self.head or self.shown
        if entry is None:
            raise ValueError("a pair has at least one side")
        return entry.stream

    @property
    def kind(self) -> DifferenceKind | None:
        """None where they agree; also that there is nothing."""
        if self.head is None:
            return DifferenceKind.ORPHANED if self.shown else None
        if self.shown is None:
            return DifferenceKind.MISSING
        if self.shown.version < self.head.version:
            return DifferenceKind.STALE
        return None if self.shown == self.head else DifferenceKind.DIFFERENT


def compare(heads: Iterable[Entry], shown: Iterable[Entry]) -> Difference:
    """Compare in memory: about 300 bytes a key. Each side names a key at most once."""
    difference = Difference()
    store = {entry.stream: entry for entry in shown}
    for head in heads:
        difference.add(Pair(head, store.pop(head.stream, None)))
    difference.orphaned.extend(store)
    return difference


async def merge(heads: AsyncIterable[Entry], shown: Iterable[Entry]) -> AsyncIterator[Pair]:
    """Every key of either side once, in order, in the memory of one pair.

    ValueError where a side is out of order or names a key twice: what it said would be worthless.
    """
    store = _rising(shown)
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


def _rising(entries: Iterable[Entry]) -> Iterator[Entry]:
    last: StreamKey | None = None
    for entry in entries:
        _require_rising(last, entry.stream)
        last = entry.stream
        yield entry


def _require_rising(last: StreamKey | None, stream: StreamKey) -> None:
    if last is not None and stream <= last:
        raise ValueError(f"{stream} comes after {last}: out of order, or twice")
