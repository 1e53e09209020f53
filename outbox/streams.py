"""The stream heads: every key there is, with its version; and comparison with a store."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg


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
    or a version above the head's.
    """

    missing: list[StreamKey] = field(default_factory=list)
    stale: list[StreamKey] = field(default_factory=list)
    orphaned: list[StreamKey] = field(default_factory=list)
    different: list[StreamKey] = field(default_factory=list)

    @property
    def keys(self) -> int:
        return sum(map(len, (self.missing, self.stale, self.orphaned, self.different)))


def compare(heads: Iterable[Entry], shown: Iterable[Entry]) -> Difference:
    """Compare in memory: about 300 bytes a key. Each side names a key at most once."""
    difference = Difference()
    store = {entry.stream: entry for entry in shown}
    for head in heads:
        _compare_one(head, store.pop(head.stream, None), difference)
    difference.orphaned.extend(store)
    return difference


def _compare_one(head: Entry, entry: Entry | None, difference: Difference) -> None:
    if entry is None:
        difference.missing.append(head.stream)
    elif entry.version < head.version:
        difference.stale.append(head.stream)
    elif entry != head:
        difference.different.append(head.stream)


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
    parameters = {"aggregates": list(aggregates), "prefix": prefix}
    rows = await connection.execute(HEADS, parameters)
    return [
        Entry(StreamKey(aggregate, key), version, digest, deleted)
        for aggregate, key, version, digest, deleted in await rows.fetchall()
    ]
