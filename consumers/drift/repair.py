"""Repair: apply the latest messages of just those keys that differ, and delete wrong entries.

For each page of keys it looks at both sides, the store first; reads the latest messages; deletes
entries that no event accounts for (an orphan, another content at the head's version, a version
above the head); and applies the messages. Why this is right beside live traffic:
- Everything that is applied is fenced by version: a newer version that came meanwhile stays.
- An entry is deleted only if it is unchanged: whatever was applied since it was read stays.
- The latest message of a deleted entry is read once more after the deletion. A message that the
  entry kept out was committed before the deletion, so it is found; a later message finds nothing in
  its way.
So a repair may run again, stop anywhere, and run twice at once.

Weaknesses:
- A key whose content differs at its own version is absent between its deletion and its message, and
  for that moment an older message that is delivered again may show. If the repair stops in between,
  the key stays missing until the next repair.
- A foreign entry that is in no key's place may belong to another program: it is named, with its id
  in the store, and never removed. One in a key's place is replaced by the key's latest message.
- A key cannot be repaired if its latest message is neither in the outbox nor among the compacted
  messages, or if the store refuses that message. Such keys are counted, and named.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from time import monotonic
from typing import Any

import psycopg

from consumers.drift.check import Drift
from consumers.drift.recheck import read_pairs_now
from consumers.projections.isolate_refused import apply_all_but_refused
from consumers.projections.projection import Change, ForeignEntry, Projection, read_change
from outbox.cursor.database_identity import read_identity
from outbox.errors import Halted, MessageRejected, translate_errors
from outbox.operations import Operation
from outbox.runtime.pages import paginate
from outbox.runtime.progress import OnProgress, ignore_progress
from outbox.runtime.rate_limit import RateLimit
from outbox.streams.difference import DifferenceKind, Pair
from outbox.streams.heads import Entry, StreamKey
from outbox.streams.latest import read_latest

PAGE_KEYS = 250
NAMED_KEYS = 1_000

Connection = psycopg.AsyncConnection[Any]


class RepairTooLarge(Exception):
    """A repair would touch more keys than it is allowed to; it has touched none."""


@dataclass(frozen=True, slots=True)
class RepairLimits:
    """How many keys a repair may touch, and how fast.

    It may touch the part `max_share` of all keys, from 0 to 1, or `free_keys`, whichever is more.
    """

    max_share: float = 0.1
    free_keys: int = 10
    keys_per_second: float | None = 500.0

    def require(self, drift: Drift) -> None:
        """Raise RepairTooLarge where more keys differ than a repair may touch."""
        allowed = max(self.free_keys, self.max_share * drift.whole)
        if drift.repairable > allowed:
            raise RepairTooLarge(
                f"{drift.projection}: {drift.repairable:,} of {drift.whole:,} keys differ, and a "
                f"repair may touch {int(allowed):,}: is it the right database? With "
                f"`--allow-share {_round_up(drift.share)}` it does"
            )


def _round_up(share: float) -> float:
    return min(1.0, ceil(share * 100) / 100)


@dataclass(slots=True)
class RepairCounts:
    """What a repair did, in keys, and how many `seconds` it took.

    `applied` keys got their latest message; the entries of `forgotten` keys were only deleted;
    `settled` keys no longer differed. `left` has the keys that could not be repaired, each with the
    reason, and `foreign` the entries that are in no key's place. At most NAMED_KEYS of each are
    named; `failed` counts them all.
    """

    applied: int = 0
    forgotten: int = 0
    settled: int = 0
    failed: int = 0
    seconds: float = 0.0
    left: dict[StreamKey, str] = field(default_factory=dict)
    foreign: list[ForeignEntry] = field(default_factory=list)

    @property
    def done(self) -> int:
        """How many keys were dealt with, failed ones included."""
        return self.applied + self.forgotten + self.settled + self.failed

    def fail(self, stream: StreamKey, why: str) -> None:
        """Count a key that cannot be repaired, and name it."""
        self.failed += 1
        if len(self.left) < NAMED_KEYS:
            self.left[stream] = why

    def leave(self, foreign: ForeignEntry) -> None:
        """Count a foreign entry that stays, and name it."""
        self.failed += 1
        if len(self.foreign) < NAMED_KEYS:
            self.foreign.append(foreign)


async def repair(
    connection: Connection,
    projection: Projection,
    drift: Drift,
    limits: RepairLimits,
    operation: Operation,
    on_progress: OnProgress = ignore_progress,
) -> RepairCounts:
    """Repair what a check found, inside its block; `connection` is in autocommit.

    The operation is recorded before anything is touched. Raises RepairTooLarge where the limits do
    not allow it, Halted where the database is not the one that the relay knew, and DependencyDown
    where a side fails: what was done until then stays, and repairing again is right.
    """
    limits.require(drift)
    run = _RepairRun(connection, projection)
    with translate_errors():
        await _require_same_history(connection)
        operation.details.update(_describe(drift))
        await operation.record(connection)
        await run.repair(drift, RateLimit(limits.keys_per_second), on_progress)
    return run.repaired


async def _require_same_history(connection: Connection) -> None:
    """Raise Halted after a restore: the heads are behind the stores then, which are right."""
    if why := (await read_identity(connection)).explain_halt():
        raise Halted(why)


def _describe(drift: Drift) -> dict[str, Any]:
    return {
        "keys": drift.whole,
        "found": {str(kind): count for kind, count in drift.counts.items()},
    }


class _RepairRun:
    """One run of a repair, page after page."""

    def __init__(self, connection: Connection, projection: Projection) -> None:
        self.repaired = RepairCounts()
        self._connection = connection
        self._projection = projection

    async def repair(self, drift: Drift, rate: RateLimit, on_progress: OnProgress) -> None:
        """Repair every key that the check found, and count the foreign entries that are left."""
        started = monotonic()
        streams = (pair.stream for pair in drift.pairs())
        for page in paginate(streams, PAGE_KEYS):
            await self._repair_page(page)
            on_progress(self.repaired.done, drift.keys)
            await rate.spend(len(page))
        if drift.counts[DifferenceKind.FOREIGN]:
            await self._count_foreign()
        self.repaired.seconds = monotonic() - started

    async def _count_foreign(self) -> None:
        """Name the foreign entries that are left; those in a key's place are gone by now."""
        async for entry in self._projection.scan():
            if isinstance(entry, ForeignEntry):
                self.repaired.leave(entry)

    async def _repair_page(self, streams: Sequence[StreamKey]) -> None:
        seen = await read_pairs_now(self._connection, self._projection, streams)
        differing = [pair for pair in seen.values() if pair.kind is not None]
        self.repaired.settled += len(streams) - len(differing)
        headed = [pair.stream for pair in differing if pair.head is not None]
        changes = await self._read_changes(headed)
        unaccounted = list(_list_unaccounted(differing, changes))
        await self._projection.delete_if_unchanged(unaccounted)
        changes |= await self._read_changes([entry.stream for entry in unaccounted])
        self.repaired.forgotten += sum(entry.stream not in changes for entry in unaccounted)
        await self._apply(list(changes.values()))

    async def _read_changes(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Change]:
        """The latest change of each key; keys without one that can be applied count as failed."""
        changes: dict[StreamKey, Change] = {}
        for stream, envelope in (await read_latest(self._connection, streams)).items():
            if envelope is None:
                self.repaired.fail(stream, "its latest message is in no table")
                continue
            try:
                changes[stream] = read_change(envelope)
            except MessageRejected as error:
                self.repaired.fail(stream, str(error))
        return changes

    async def _apply(self, changes: Sequence[Change]) -> None:
        self.repaired.applied += await apply_all_but_refused(
            self._projection,
            changes,
            lambda change, refusal: self.repaired.fail(change.stream, str(refusal)),
        )


def _list_unaccounted(pairs: Sequence[Pair], changes: Container[StreamKey]) -> Iterator[Entry]:
    """The entries that no event accounts for, and that must be deleted.

    An entry with a wrong content stays where no message can replace it: a wrong entry is better
    than none, and its key is named.
    """
    for pair in pairs:
        replaceable = pair.kind is DifferenceKind.DIFFERENT and pair.stream in changes
        if pair.stored is not None and (replaceable or pair.kind is DifferenceKind.ORPHANED):
            yield pair.stored
