"""Drift check: PostgreSQL's stream heads, compared with what a projection's store really holds.

A check finds exactly the keys that are missing, stale, orphaned or different
(outbox.streams.difference defines them), also while writers go on. The store is scanned first and
the heads are read after it, so a key whose message is still under way differs at first. Every such
candidate is looked at again until it is certain, or until the patience has run out
(consumers/drift/recheck.py).

It holds a page and a run of keys in memory, however many there are; the rest is spooled to a
temporary file, some 100 bytes a key. A scan that fails raises; it never counts as "in sync".

Weaknesses:
- A message that is under way for longer than the patience counts as missing or stale, even if
  nothing is wrong but a slow or stopped consumer.
- Contents are compared by the digest that was stored with them. A content that was changed in a
  store beside its digest is not noticed.
- A key that only the store has, and that comes while the scan goes on, may be left out.
- A foreign entry is reported as the scan has read it, whatever became of it since.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
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
from outbox.runtime.progress import OnProgress, ignore_progress
from outbox.runtime.rate_limit import RateLimit
from outbox.streams.difference import Difference, DifferenceKind, Pair, merge
from outbox.streams.heads import count_heads, read_heads_in_order

PROGRESS_KEYS = 1_000

Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """The options of a check.

    `patience_seconds`: how long a message may be under way before its key counts as drift.
    `keys_per_second`: how fast the store is scanned; None means without a limit.
    `run_rows`: how many keys are held in memory.
    """

    patience_seconds: float = 10.0
    keys_per_second: float | None = None
    run_rows: int = RUN_ROWS


@dataclass(frozen=True, slots=True)
class Drift:
    """What a check found; all counts are exact.

    `heads` is how many keys PostgreSQL has, and `shown` how many the store has. Read `pairs` and
    `foreign` inside the block of `open_check`: they are in its temporary files.
    """

    projection: str
    heads: int
    shown: int
    counts: Mapping[DifferenceKind, int]
    seconds: float
    differing_rows: SortedSpool
    foreign_rows: SortedSpool

    @property
    def keys(self) -> int:
        """How many keys differ, foreign entries included."""
        return sum(self.counts.values())

    @property
    def repairable(self) -> int:
        """How many keys a repair may touch: foreign entries that are in no key's place stay."""
        return self.keys - self.counts[DifferenceKind.FOREIGN]

    @property
    def whole(self) -> int:
        """How many keys there are on both sides together."""
        return self.heads + self.counts[DifferenceKind.ORPHANED]

    @property
    def share(self) -> float:
        """The part of all keys that a repair may touch, from 0 to 1."""
        return self.repairable / max(1, self.whole)

    def pairs(self) -> Iterator[Pair]:
        """Every key that differs, in order, as both sides were when that was certain."""
        return read_pairs(self.differing_rows)

    def foreign(self) -> Iterator[ForeignEntry]:
        """Every foreign entry, in the order of their places."""
        return read_foreign(self.foreign_rows)


async def check_in_memory(
    connection: Connection, projection: Projection, options: CheckOptions | None = None
) -> Difference:
    """The keys that differ, all in memory: for callers who expect few."""
    difference = Difference()
    async with open_check(connection, projection, options or CheckOptions()) as drift:
        for pair in drift.pairs():
            difference.add(pair)
        difference.foreign.extend(each.place for each in drift.foreign())
    return difference


@asynccontextmanager
async def open_check(
    connection: Connection,
    projection: Projection,
    options: CheckOptions,
    on_progress: OnProgress = ignore_progress,
) -> AsyncIterator[Drift]:
    """Compare all keys of both sides; the result can be read inside the block.

    `connection` is in autocommit, so that each query sees its own moment. `on_progress` is called
    with how many keys of the store were read, and about how many there are. Raises DependencyDown
    where a side or the disk fails, and Halted where the store names a key twice.
    """
    with SortedSpool(options.run_rows) as differing, SortedSpool(options.run_rows) as foreign:
        with translate_errors():
            drift = await _check(connection, projection, options, on_progress, differing, foreign)
        yield drift


async def _check(
    connection: Connection,
    projection: Projection,
    options: CheckOptions,
    on_progress: OnProgress,
    differing: SortedSpool,
    foreign: SortedSpool,
) -> Drift:
    started = monotonic()
    recheck = Recheck(connection, projection, differing)
    with SortedSpool(options.run_rows) as candidates:
        with SortedSpool(options.run_rows) as stored:
            await _scan(connection, projection, stored, foreign, options, on_progress)
            heads = await _compare(connection, projection, stored, candidates)
        await recheck.settle(candidates, options.patience_seconds)
    seconds = monotonic() - started
    counts = dict(recheck.counts) | {DifferenceKind.FOREIGN: foreign.rows}
    return Drift(projection.name, heads, stored.rows, counts, seconds, differing, foreign)


async def _scan(
    connection: Connection,
    projection: Projection,
    stored: SortedSpool,
    foreign: SortedSpool,
    options: CheckOptions,
    on_progress: OnProgress,
) -> None:
    """Spool what the store holds, and its foreign entries apart from that."""
    whole = await count_heads(connection, projection.aggregates)
    rate = RateLimit(options.keys_per_second)
    async for entry in projection.scan():
        if isinstance(entry, ForeignEntry):
            foreign.add(row_of_foreign(entry))
        else:
            stored.add(row_of_entry(entry))
        await rate.spend(1)
        if (stored.rows + foreign.rows) % PROGRESS_KEYS == 0:
            on_progress(stored.rows, max(whole, stored.rows))
            await asyncio.sleep(0)  # a store inside our process never waits
    on_progress(stored.rows, max(whole, stored.rows))


async def _compare(
    connection: Connection, projection: Projection, stored: SortedSpool, candidates: SortedSpool
) -> int:
    """Spool the keys that are not the same on both sides; return how many heads there are."""
    heads = 0
    try:
        async for pair in merge(
            read_heads_in_order(connection, projection.aggregates), read_entries(stored)
        ):
            heads += pair.head is not None
            if pair.kind is not None:
                candidates.add(row_of_pair(pair))
    except ValueError as error:
        raise Halted(f"{projection.name} cannot be compared: {error}") from error
    return heads
