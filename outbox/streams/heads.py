"""Reads the stream heads: every key that there is, with its last version.

Keys are sorted by their bytes (collation "C"), aggregate by aggregate. That is the order of
PostgreSQL's index, and also Python's order of text, which is the same as that of UTF-8.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, LiteralString, NamedTuple

import psycopg

PAGE_HEADS = 5_000


class StreamKey(NamedTuple):
    """An aggregate and a key, for example `catalog.item` and `us-airports/JFK`."""

    aggregate: str
    key: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A key at a version: a head in PostgreSQL, or an entry in a store.

    A deleted key keeps its version: in PostgreSQL as a deleted head, in a store as a tombstone.
    """

    stream: StreamKey
    version: int
    digest: str
    deleted: bool


# This is one index range. In "C" order a prefix is a range, because 0 is the character after /.
HEADS = """
    SELECT aggregatetype, aggregateid, version, digest, deleted FROM outbox.streams
    WHERE aggregatetype = ANY (%(aggregates)s)
      AND (%(prefix)s::text IS NULL
           OR (aggregateid >= %(prefix)s || '/' AND aggregateid < %(prefix)s || '0'))
"""


async def read_heads(
    connection: psycopg.AsyncConnection[Any], aggregates: Sequence[str], prefix: str | None = None
) -> list[Entry]:
    """Return the heads of these aggregates, deleted ones included.

    With a prefix, it returns only those of keys `prefix/…`.
    """
    return await _fetch_entries(
        connection, HEADS, {"aggregates": list(aggregates), "prefix": prefix}
    )


# A page of one aggregate, by the primary key, which is in "C" order. The next page begins after it.
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
    """Yield every head of these aggregates in order, reading a page at a time.

    No transaction stays open between pages, because a long one would keep dead rows from being
    removed. Each page is read later than the one before it, and a head is never removed. So no key
    that was there at the beginning is left out, and no version is older than at the beginning.
    """
    for aggregate in sorted(aggregates):
        after = ""
        while True:
            parameters = {"aggregate": aggregate, "after": after, "limit": PAGE_HEADS}
            page = await _fetch_entries(connection, PAGE, parameters)
            for entry in page:
                yield entry
            if len(page) < PAGE_HEADS:
                break
            after = page[-1].stream.key


async def read_heads_of(
    connection: psycopg.AsyncConnection[Any], streams: Iterable[StreamKey]
) -> dict[StreamKey, Entry]:
    """Return the heads of these keys; keys without a head are left out."""
    heads: dict[StreamKey, Entry] = {}
    for aggregate, group in groupby(sorted(streams), key=lambda stream: stream.aggregate):
        parameters = {"aggregate": aggregate, "keys": [stream.key for stream in group]}
        found = await _fetch_entries(connection, THESE, parameters)
        heads |= {entry.stream: entry for entry in found}
    return heads


async def count_heads(connection: psycopg.AsyncConnection[Any], aggregates: Iterable[str]) -> int:
    """Return how many keys these aggregates have, deleted ones included."""
    row = await (await connection.execute(COUNT, [sorted(aggregates)])).fetchone()
    return int(row[0]) if row else 0


async def _fetch_entries(
    connection: psycopg.AsyncConnection[Any], query: LiteralString, parameters: dict[str, Any]
) -> list[Entry]:
    rows = await connection.execute(query, parameters)
    return [
        Entry(StreamKey(aggregate, key), version, digest, deleted)
        for aggregate, key, version, digest, deleted in await rows.fetchall()
    ]
