"""The stream heads: every key that there is, with its version.

Keys are in the order of their bytes ("C"), aggregate by aggregate: PostgreSQL's index, and Python's
order of text, which is that of UTF-8.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
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


async def read_heads_in_order(
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


async def read_heads_of(
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
