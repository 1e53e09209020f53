"""Repair: the latest message of just those keys that differ, applied again; orphans forgotten.

For each page of keys: look at both sides, the store first; read the latest messages; forget what no
event accounts for (an orphan, another content at the head's version, a version above the head);
apply. Why that is right beside live traffic:
- What is applied is fenced by version, as everything is: a newer version that came meanwhile stays.
- What is forgotten is fenced by what was seen: whatever was applied since stays.
- Of what was forgotten, the latest message is read once more after that. One that the forgotten
  entry kept out was committed before it went, so it is found; one that comes later finds nothing in
  its way.
So it may be run again, stopped anywhere, and run twice at once.

Weaknesses:
- A key whose content differs at its own version is absent between the forgetting and the applying,
  and for that moment an older message that is delivered again may show. Stopped in between, it
  stays missing until the next repair.
- A foreign entry that is in no key's way belongs to another program, perhaps: it is named, with its
  id in the store, and never removed. One in a key's place is replaced by the key's latest message.
- A key whose latest message is in neither the outbox nor what retention kept cannot be repaired,
  nor one that the store refuses: they are counted, and named.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from time import monotonic
from typing import Any

import psycopg

from consumers.drift.check import Drift, OnProgress
from consumers.drift.recheck import read_pairs_now
from consumers.drift.sorted_spool import paginate
from consumers.projections.projection import Change, ForeignEntry, Projection, read_change
from outbox.cursor.database_identity import read_identity
from outbox.errors import Halted, MessageRejected, translate_errors
from outbox.operations import Operation
from outbox.runtime.rate_limit import RateLimit
from outbox.streams.difference import DifferenceKind, Pair
from outbox.streams.heads import Entry, StreamKey
from outbox.streams.latest import read_latest

PAGE_KEYS = 250
NAMED_KEYS = 1_000

Connection = psycopg.AsyncConnection[Any]


class TooMuch(Exception):
    """A repair would touch more than it was allowed to; nothing was touched."""


@dataclass(frozen=True, slots=True)
class RepairLimits:
    """How much a repair may touch, and how fast.

    `max_share` of all keys, from 0 to 1, or `free_keys`, whichever is more.
    """

    max_share: float = 0.1
    free_keys: int = 10
    keys_per_second: float | None = 500.0

    def require(self, drift: Drift) -> None:
        """TooMuch where more keys differ than that."""
        allowed = max(self.free_keys, self.max_share * drift.whole)
        if drift.repairable > allowed:
            raise TooMuch(
                f"{drift.projection}: {drift.repairable:,} of {drift.whole:,} keys differ, and a "
                f"repair may touch {int(allowed):,}: is it the right database? With "
                f"`--allow-share {_round_up(drift.share)}` it does"
            )


def _round_up(share: float) -> float:
    return min(1.0, ceil(share * 100) / 100)


@dataclass(slots=True)
class Repaired:
    """What was done: keys that had a message `applied`, were only `forgotten`, or had `settled`.

    `left` are those that could not be repaired, each with the reason, and `foreign` the entries
    that are in no key's place; at most NAMED_KEYS of each are named, and `failed` counts them all.
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
        return self.applied + self.forgotten + self.settled + self.failed

    def fail(self, stream: StreamKey, why: str) -> None:
        self.failed += 1
        if len(self.left) < NAMED_KEYS:
            self.left[stream] = why

    def leave(self, foreign: ForeignEntry) -> None:
        self.failed += 1
        if len(self.foreign) < NAMED_KEYS:
            self.foreign.append(foreign)


async def repair(
    connection: Connection,
    projection: Projection,
    drift: Drift,
    limits: RepairLimits,
    operation: Operation,
    on_progress: OnProgress = lambda *_: None,
) -> Repaired:
    """Repair what a check found, inside its block; `connection` is in autocommit.

    The operation is recorded before anything is touched. Raises TooMuch; Halted where the database
    is not the one that the relay knew; DependencyDown where a side fails: what was done until then
    stays, and repairing again is right.
    """
    limits.require(drift)
    repairing = _Repairing(connection, projection)
    with translate_errors():
        await _require_same_history(connection)
        operation.details.update(_describe(drift))
        await operation.record(connection)
        await repairing.run(drift, RateLimit(limits.keys_per_second), on_progress)
    return repairing.repaired


async def _require_same_history(connection: Connection) -> None:
    """Heads of a database that was restored are behind the stores, which hold the truth then."""
    if why := (await read_identity(connection)).explain_halt():
        raise Halted(why)


def _describe(drift: Drift) -> dict[str, Any]:
    return {
        "keys": drift.whole,
        "found": {str(kind): count for kind, count in drift.counts.items()},
    }


class _Repairing:
    """One repair: page after page."""

    def __init__(self, connection: Connection, projection: Projection) -> None:
        self.repaired = Repaired()
        self._connection = connection
        self._projection = projection

    async def run(self, drift: Drift, rate: RateLimit, on_progress: OnProgress) -> None:
        started = monotonic()
        streams = (pair.stream for pair in drift.pairs())
        for page in paginate(streams, PAGE_KEYS):
            await self._repair(page)
            on_progress(self.repaired.done, drift.keys)
            await rate.spend(len(page))
        if drift.counts[DifferenceKind.FOREIGN]:
            await self._leave_foreign()
        self.repaired.seconds = monotonic() - started

    async def _leave_foreign(self) -> None:
        """Those that were in a key's place are gone by now; the others are named."""
        async for entry in self._projection.scan():
            if isinstance(entry, ForeignEntry):
                self.repaired.leave(entry)

    async def _repair(self, streams: Sequence[StreamKey]) -> None:
        seen = await read_pairs_now(self._connection, self._projection, streams)
        differing = [pair for pair in seen.values() if pair.kind is not None]
        self.repaired.settled += len(streams) - len(differing)
        headed = [pair.stream for pair in differing if pair.head is not None]
        changes = await self._changes(headed)
        unaccounted = list(_unaccounted(differing, changes))
        await self._projection.delete_if_unchanged(unaccounted)
        changes |= await self._changes([entry.stream for entry in unaccounted])
        self.repaired.forgotten += sum(entry.stream not in changes for entry in unaccounted)
        await self._apply(list(changes.values()))

    async def _changes(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Change]:
        """The latest change of each key that has one; those that cannot be applied are left."""
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
        """All at once; where one is refused, one by one, so that only that one is left."""
        try:
            await self._projection.apply(changes)
            self.repaired.applied += len(changes)
        except MessageRejected as error:
            if len(changes) == 1:
                self.repaired.fail(changes[0].stream, str(error))
                return
            for change in changes:
                await self._apply([change])


def _unaccounted(pairs: Sequence[Pair], changes: Container[StreamKey]) -> Iterator[Entry]:
    """What a store shows that no event can have put there, and that can be replaced or has to go.

    What cannot be replaced stays: wrong is better than nothing, and it is named.
    """
    for pair in pairs:
        replaceable = pair.kind is DifferenceKind.DIFFERENT and pair.stream in changes
        if pair.stored is not None and (replaceable or pair.kind is DifferenceKind.ORPHANED):
            yield pair.stored
