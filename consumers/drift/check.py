"""Drift: PostgreSQL's stream heads against what a projection's store really shows.

A check finds exactly the keys that are missing, stale, orphaned or different
(outbox.streams.difference says what each is), also while writers go on: the store is scanned first
and the heads are read after it, so a key differs at first when its message is still under way.
Every such suspect is looked at again until it is certain or a patience has run out
(consumers/drift/recheck.py).

It holds a page and a run of keys in memory, however many there are; the rest is spooled to a
temporary file, some 100 bytes a key. A scan that fails raises; it is never "in sync".

Weaknesses:
- What is under way for longer than the patience counts as missing or stale, also when nothing is
  wrong but a slow or stopped consumer.
- Contents are compared by the digest that was stored with them. What was changed in a store beside
  its digest is not seen.
- A key that only the store has and that comes while the scan goes on may be left out.
- A foreign entry is told as the scan has seen it, whatever became of it since.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import psycopg

from consumers.drift.recheck import Recheck
from consumers.drift.sorted_spool import (
    RUN_ROWS,
    SortedSpool,
    read_entries,
    read_foreign,
    read_pairs,
    row_of_entry,
    row_of_foreign,
    row_of_pair,
)
from consumers.projections.projection import ForeignEntry, Projection
from outbox.errors import Halted, translate_errors
from outbox.runtime.rate_limit import RateLimit
from outbox.streams.difference import Difference, DifferenceKind, Pair, merge
from outbox.streams.heads import count_heads, read_heads_in_order

TOLD_KEYS = 1_000

Connection = psycopg.AsyncConnection[Any]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Care:
    """How a check goes about it.

    `patience_seconds`: how long a message may be under way before its key counts as drift.
    `keys_per_second`: how fast the store is scanned; None for as fast as it goes.
    `run_rows`: how many keys are held in memory.
    """

    patience_seconds: float = 10.0
    keys_per_second: float | None = None
    run_rows: int = RUN_ROWS


@dataclass(frozen=True, slots=True)
class Drift:
    """What a check found; exact. `heads` and `shown` are the keys on either side.

    Read `pairs` and `foreign` inside the block of `checked`: they lie in its temporary files.
    """

    projection: str
    heads: int
    shown: int
    counts: Mapping[DifferenceKind, int]
    seconds: float
    found: SortedSpool
    strangers: SortedSpool

    @property
    def keys(self) -> int:
        """How many keys differ, foreign entries included."""
        return sum(self.counts.values())

    @property
    def repairable(self) -> int:
        """How many keys a repair may touch: foreign entries that are in no key's way stay."""
        return self.keys - self.counts[DifferenceKind.FOREIGN]

    @property
    def whole(self) -> int:
        """How many keys there are on both sides together."""
        return self.heads + self.counts[DifferenceKind.ORPHANED]

    @property
    def share(self) -> float:
        """How much of all there is a repair may touch, from 0 to 1."""
        return self.repairable / max(1, self.whole)

    def pairs(self) -> Iterator[Pair]:
        """Every key that differs, in order, as it was when that was certain."""
        return read_pairs(self.found)

    def foreign(self) -> Iterator[ForeignEntry]:
        """Every foreign entry, in the order of its place."""
        return read_foreign(self.strangers)


async def check_in_memory(
    connection: Connection, projection: Projection, care: Care | None = None
) -> Difference:
    """The keys that differ, in memory: for those who expect few."""
    difference = Difference()
    async with open_check(connection, projection, care or Care()) as drift:
        for pair in drift.pairs():
            difference.add(pair)
        difference.foreign.extend(each.place for each in drift.foreign())
    return difference


@asynccontextmanager
async def open_check(
    connection: Connection,
    projection: Projection,
    care: Care,
    on_progress: OnProgress = lambda *_: None,
) -> AsyncIterator[Drift]:
    """Compare all there is. `connection` is in autocommit: each look is of its own moment.

    `tell` hears how many keys of the store were read, and about how many there are. Raises
    DependencyDown where a side or the disk fails, Halted where the store names a key twice.
    """
    with SortedSpool(care.run_rows) as found, SortedSpool(care.run_rows) as strangers:
        with translate_errors():
            drift = await _check(connection, projection, care, on_progress, found, strangers)
        yield drift


async def _check(
    connection: Connection,
    projection: Projection,
    care: Care,
    on_progress: OnProgress,
    found: SortedSpool,
    strangers: SortedSpool,
) -> Drift:
    started = monotonic()
    inquiry = Recheck(connection, projection, found)
    with SortedSpool(care.run_rows) as suspects:
        with SortedSpool(care.run_rows) as shown:
            await _scan(connection, projection, shown, strangers, care, on_progress)
            heads = await _suspect(connection, projection, shown, suspects)
        await inquiry.settle(suspects, care.patience_seconds)
    seconds = monotonic() - started
    counts = dict(inquiry.counts) | {DifferenceKind.FOREIGN: strangers.rows}
    return Drift(projection.name, heads, shown.rows, counts, seconds, found, strangers)


async def _scan(
    connection: Connection,
    projection: Projection,
    shown: SortedSpool,
    strangers: SortedSpool,
    care: Care,
    on_progress: OnProgress,
) -> None:
    """Write down what the store shows, and apart from it what is foreign."""
    whole = await count_heads(connection, projection.aggregates)
    rate = RateLimit(care.keys_per_second)
    async for entry in projection.scan():
        if isinstance(entry, ForeignEntry):
            strangers.add(row_of_foreign(entry))
        else:
            shown.add(row_of_entry(entry))
        await rate.spend(1)
        if (shown.rows + strangers.rows) % TOLD_KEYS == 0:
            on_progress(shown.rows, max(whole, shown.rows))
            await asyncio.sleep(0)  # a store inside our process never waits for anything
    on_progress(shown.rows, max(whole, shown.rows))


async def _suspect(
    connection: Connection, projection: Projection, shown: SortedSpool, suspects: SortedSpool
) -> int:
    """Write down what is not the same on both sides; how many heads there are."""
    heads = 0
    try:
        async for pair in merge(
            read_heads_in_order(connection, projection.aggregates), read_entries(shown)
        ):
            heads += pair.head is not None
            if pair.kind is not None:
                suspects.add(row_of_pair(pair))
    except ValueError as error:
        raise Halted(f"{projection.name} cannot be compared: {error}") from error
    return heads
