"""The stream heads: every key there is, with its version; and comparison with a store.

Keys are in the order of their bytes ("C"), aggregate by aggregate: PostgreSQL's index, and Python's
order of text, which is that of UTF-8.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import Any, LiteralString, NamedTuple

import psycopg

PAGE_HEADS = 5_000


class StreamKey(NamedTuple):
    """What a version belongs to: `catalog.item`, `us-airports/JFK`."""

    aggregate: str
    key: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A key at a version: as a head in PostgreSQL, or as a store shows it.

    A deleted key keeps its version: in PostgreSQL as a deleted head, in a store as a tombstone.
    """

    stream: StreamKey
    version: int
    digest: str
    deleted: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """Which keys of a store do not show what the heads say; empty when they agree.

    missing: the store has nothing (for a deleted key: no tombstone). stale: a lower version.
    orphaned: the store has a key without a head. different: the same version with another digest,
    or a version above the head's. foreign: the ids of entries that no writer of ours can have put
    there as they are (outbox/stored_entries.py).
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


class Kind(StrEnum):
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
    def kind(self) -> Kind | None:
        """None where they agree; also that there is nothing."""
        if self.head is None:
            return Kind.ORPHANED if self.shown else None
        if self.shown is None:
            return Kind.MISSING
        if self.shown.version < self.head.version:
            return Kind.STALE
        return None if self.shown == self.head else Kind.DIFFERENT


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


# One index range; "C" order makes the prefix a range: 0 is the character after the slash.
HEADS = """
    SELECT aggregatetype, aggregateid, version, digest, deleted FROM outbox.streams
    WHERE aggregatetype = ANY (%(aggregates)s)
      AND (%(prefix)s::text IS NULL
           OR (aggregateid >= %(prefix)s || '/' AND aggregateid < %(prefix)s || '0'))
"""


async def read_heads(
    connection: psycopg.AsyncConnection[Any], aggregates: Sequence[str], prefix: str | None = None
) -> list[Entry]:
    """The heads of these aggregates, deleted ones included; with a prefix, keys `prefix/…` only."""
    return await _entries(connection, HEADS, {"aggregates": list(aggregates), "prefix": prefix})


# One aggregate's range of the primary key, which is in "C" order; the next page begins behind it.
PAGE = """
    SELECT aggregatetype, aggregateid, version, digest, deleted FROM outbox.streams
    WHERE aggregatetype = %(aggregate)s AND aggregateid > %(after)s
    ORDER BY aggregateid LIMIT %(limit)s
"""
THESE = """
    SELECT head.aggregatetype, head.aggregateid, head.version, head.digest, head.deleted
    FROM unnest(%(keys)s::text[]) AS asked (key)
    JOIN outbox.streams AS head
      ON head.aggregatetype = %(aggregate)s AND head.aggregateid = asked.key
"""
COUNT = "SELECT count(*) FROM outbox.streams WHERE aggregatetype = ANY (%s)"


async def heads_in_order(
    connection: psycopg.AsyncConnection[Any], aggregates: Iterable[str]
) -> AsyncIterator[Entry]:
    """Every head of these aggregates, a page at a time.

    No transaction stays open between pages: a long one would keep dead rows from being removed.
    Each page is later than the one before it, and a head once there never goes: so no key that was
    there at the beginning is left out, and no version is older than that.
    """
    for aggregate in sorted(aggregates):
        after = ""
        while True:
            parameters = {"aggregate": aggregate, "after": after, "limit": PAGE_HEADS}
            page = await _entries(connection, PAGE, parameters)
            for entry in page:
                yield entry
            if len(page) < PAGE_HEADS:
                break
            after = page[-1].stream.key


async def heads_of(
    connection: psycopg.AsyncConnection[Any], streams: Iterable[StreamKey]
) -> dict[StreamKey, Entry]:
    """The heads of these keys; keys without one are left out."""
    heads: dict[StreamKey, Entry] = {}
    for aggregate, group in groupby(sorted(streams), key=lambda stream: stream.aggregate):
        parameters = {"aggregate": aggregate, "keys": [stream.key for stream in group]}
        found = await _entries(connection, THESE, parameters)
        heads |= {entry.stream: entry for entry in found}
    return heads


async def count_heads(connection: psycopg.AsyncConnection[Any], aggregates: Iterable[str]) -> int:
    """How many keys there are, deleted ones too."""
    row = await (await connection.execute(COUNT, [sorted(aggregates)])).fetchone()
    return int(row[0]) if row else 0


async def _entries(
    connection: psycopg.AsyncConnection[Any], query: LiteralString, parameters: dict[str, Any]
) -> list[Entry]:
    rows = await connection.execute(query, parameters)
    return [
        Entry(StreamKey(aggregate, key), version, digest, deleted)
        for aggregate, key, version, digest, deleted in await rows.fetchall()
    ]
