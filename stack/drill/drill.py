"""Drift drill: two stores are broken in known ways while writers go on, checked and repaired.

Items are published in PostgreSQL and go through the relay, Kafka and both consumers. Then each
store's own client deletes keys, rolls some back, alters some at their version, and plants some that
have no stream head. A check must find exactly those, a repair must leave none of them, and
everything else must be what it was before, byte for byte.

Qdrant's local mode runs in memory here, since on disk it commits point by point. All of it runs in
one process. So the times and the memory include whatever else goes on meanwhile: they are an upper
bound of what the check itself needs.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import Any

import psycopg

from consumers.drift.check import CheckOptions, Drift, check_in_memory, open_check
from consumers.drift.repair import RepairCounts, RepairLimits, repair
from consumers.projections.projection import (
    Change,
    Projection,
    ProjectionReaction,
    StreamKey,
    read_change,
)
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.operations import Operation
from outbox.postgres.connection import connect
from outbox.relay.relay import Relay
from outbox.runtime.pages import paginate
from outbox.streams.difference import DifferenceKind
from outbox.streams.latest import read_latest
from schemas.catalog import ItemEvent
from stack.demo.demo import prepare, settings_for
from stack.drill.contents import Contents, find_touched
from stack.drill.outcome import DrillOptions, DrillOutcome, Measurement, StoreOutcome
from stack.drill.planting import Plan, plan
from stack.drill.stores import DrillStores, both_stores
from stack.drill.traffic import Numbers, Writers, key_of, make_removal, make_upsert, publish
from stack.machine import Machine, machine
from stack.process.memory_peak import Peak, peak
from stack.roles import running
from stack.servers.vectors import MEMORY

CHUNK_ITEMS = 5_000  # the stand-in for Kafka holds only some thousand messages a partition
MEBIBYTE = 1024 * 1024
# A busy event loop must not look like a dead relay or a dead consumer.
PATIENT = {
    "lease_seconds": 60.0,
    "publish_timeout_seconds": 60.0,
    "session_timeout_milliseconds": 60_000,
}

Connection = psycopg.AsyncConnection[Any]
OnProgress = Callable[[str], None]
AllContents = Mapping[str, Contents]


async def drill(options: DrillOptions, on_progress: OnProgress) -> DrillOutcome:
    """Run the whole drill on a machine of its own, and return what came of it.

    `on_progress` gets a line of text at each step. The stores' errors and StackError are raised.
    """
    started = monotonic()
    async with machine(keep=options.keep) as parts:
        for line in parts.providers():
            on_progress(line)
        if parts.qdrant.stand_in:
            on_progress("qdrant: in memory, for this drill")
        settings = _make_settings(parts)
        await prepare(parts, settings)
        async with both_stores(settings) as stores, _connected(settings) as connection:
            outcome = await _Drill(options, settings, stores, connection, on_progress).run()
    outcome.providers = {part.name: part.provider for part in parts.parts}
    outcome.seconds = round(monotonic() - started, 1)
    return outcome


def _make_settings(parts: Machine) -> Settings:
    where = {"qdrant_url": MEMORY} if parts.qdrant.stand_in else {}
    return settings_for(parts, http_port=0).model_copy(update=PATIENT | where)


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[Connection]:
    async with await connect(settings, "drill") as connection:
        yield connection


class _Drill:
    """One drill, step by step."""

    def __init__(
        self,
        options: DrillOptions,
        settings: Settings,
        stores: DrillStores,
        connection: Connection,
        on_progress: OnProgress,
    ) -> None:
        self._options = options
        self._settings = settings
        self._stores = stores
        self._connection = connection
        self._report = on_progress
        self._numbers = Numbers.of(options.keys)
        self._patient = CheckOptions(options.patience_seconds)
        self._runners = [
            Runner(settings, ProjectionReaction(store)) for store in stores.projections
        ]
        self._published = 0

    async def run(self) -> DrillOutcome:
        async with running(Relay(self._settings), *self._runners):
            older = await self._load()
            planned = self._draw_plan()
            self._report("reading all that the stores hold")
            before = await self._stores.contents(planned)
            await self._stores.plant(planned, older)
            self._report(f"{planned.keys:,} faults planted in each; checking while writers go on")
            async with self._writers() as writers:
                outcomes = [
                    await self._check_and_repair(store, planned)
                    for store in self._stores.projections
                ]
            self._report("writers stopped; comparing all that the stores hold")
            for each, store in zip(outcomes, self._stores.projections, strict=True):
                each.left += (await check_in_memory(self._connection, store, self._patient)).keys
            after = await self._stores.contents(planned)
        self._compare(outcomes, before, after)
        counts = {kind.value: len(streams) for kind, streams in planned.streams().items()}
        return DrillOutcome(
            keys=self._options.keys, planted=counts, written=writers.written, stores=outcomes
        )

    def _draw_plan(self) -> Plan:
        numbers = self._numbers
        once = [key_of(number) for number in numbers.still if number not in numbers.twice]
        return plan(once, list(map(key_of, numbers.twice)), self._options.keys, self._options.seed)

    def _writers(self) -> Writers:
        return Writers(self._settings, self._numbers.live, self._options.writes_per_second)

    def _compare(
        self, outcomes: Sequence[StoreOutcome], before: AllContents, after: AllContents
    ) -> None:
        """Count what is not what it was, though no writer wrote it."""
        live = frozenset(map(key_of, self._numbers.live))
        for each in outcomes:
            each.touched = len(find_touched(before[each.projection], after[each.projection], live))

    async def _load(self) -> dict[str, Change]:
        """Publish all items, and return the first version of those that have two.

        Both consumers have applied everything then.
        """
        numbers = self._numbers
        everything = (make_upsert(number, 1) for number in range(self._options.keys))
        for chunk in paginate(everything, CHUNK_ITEMS):
            await self._publish(chunk)
            self._report(f"{self._published:,} of {self._options.keys:,} items are in both stores")
        older = await self._read_latest(map(key_of, numbers.twice))
        await self._publish(make_upsert(number, 2) for number in numbers.twice)
        await self._publish(make_removal(number) for number in numbers.deleted)
        return older

    async def _publish(self, events: Iterable[ItemEvent]) -> None:
        """Publish these events, and return once both consumers have applied them."""
        self._published += await publish(self._connection, events)
        while not self._all_applied():  # noqa: ASYNC110 - a runner has no event for it
            await asyncio.sleep(0.05)

    def _all_applied(self) -> bool:
        return min(runner.counts.applied for runner in self._runners) >= self._published

    async def _read_latest(self, keys: Iterable[str]) -> dict[str, Change]:
        streams = [StreamKey(ItemEvent.aggregate, key) for key in keys]
        found = (await read_latest(self._connection, streams)).values()
        return {envelope.key: read_change(envelope) for envelope in found if envelope}

    async def _check_and_repair(self, store: Projection, planned: Plan) -> StoreOutcome:
        """Check one store, repair what was found, and check it again."""
        async with AsyncExitStack() as exits:
            with peak() as checking:
                drift = await exits.enter_async_context(self._open_check(store))
            self._report(f"{store.name}: {drift.keys:,} keys differ ({drift.seconds:.1f} s)")
            with peak() as repairing:
                done = await self._repair(store, drift)
            wrong = _count_wrong(drift, planned)
        with peak() as again:
            left = await check_in_memory(self._connection, store, self._patient)
        self._report(f"{store.name}: repaired ({done.seconds:.1f} s), {left.keys:,} keys differ")
        return StoreOutcome(
            projection=store.name,
            found={kind.value: count for kind, count in drift.counts.items()},
            wrong=wrong,
            applied=done.applied,
            forgotten=done.forgotten,
            failed=done.failed,
            left=left.keys,
            check=_to_measurement(checking),
            repair=_to_measurement(repairing),
            check_again=_to_measurement(again),
        )

    def _open_check(self, store: Projection) -> AbstractAsyncContextManager[Drift]:
        return open_check(self._connection, store, self._patient)

    async def _repair(self, store: Projection, drift: Drift) -> RepairCounts:
        limits = RepairLimits(keys_per_second=self._options.repairs_per_second)
        operation = Operation(self._settings.operator, "drift repair", store.name, "a drill")
        return await repair(self._connection, store, drift, limits, operation)


def _count_wrong(drift: Drift, planned: Plan) -> int:
    """Count the keys found and not planted, planted and not found, or found as another kind."""
    found: dict[DifferenceKind, set[StreamKey]] = {kind: set() for kind in DifferenceKind}
    for pair in drift.pairs():
        if pair.kind is not None:
            found[pair.kind].add(pair.stream)
    return sum(len(found[kind] ^ streams) for kind, streams in planned.streams().items())


def _to_measurement(seen: Peak) -> Measurement:
    return Measurement(
        seconds=round(seen.seconds, 2), peak_mebibytes=round(seen.growth_bytes / MEBIBYTE, 1)
    )
