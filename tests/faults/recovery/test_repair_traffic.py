"""Repair beside live traffic, while the store is broken on purpose: no version falls.

The stores are stand-ins, as the report says; PostgreSQL is real. SEED=n draws other traffic.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

import psycopg
import pytest

from consumers.drift.check import CheckOptions, check_in_memory, open_check
from consumers.drift.repair import RepairLimits, repair
from consumers.projections.projection import Change, Projection, StreamKey, read_change
from outbox.errors import MessageRejected
from outbox.operations import Operation
from outbox.streams.latest import read_latest
from tests.kit.load.seed import seed
from tests.kit.projections.catalogued import Connection, publish, remove, stream

pytestmark = pytest.mark.anyio

SEED = seed(11)
CALM = [f"calm{n}" for n in range(12)]
BROKEN = [f"broken{n}" for n in range(12)]
GHOSTS = [f"ghost{n}" for n in range(6)]
WRITES, BREAKS = 40, 30
ALL = RepairLimits(max_share=1.0, keys_per_second=None)


class Traffic:
    """Writers, each with a consumer of its own, and a breaker of the store, side by side.

    `history` has every change that was delivered: any of them may be delivered again, late.
    """

    def __init__(self, store: Projection, seed: int) -> None:
        self.history: list[Change] = []
        self.fallen: list[tuple[StreamKey, int, int]] = []
        self._store = store
        self._seed = seed
        self._highest: dict[StreamKey, int] = {}

    async def write(self, postgres: Connection, number: int) -> None:
        """Publish and deliver changes, and deliver old ones again, as consumers may."""
        chance = random.Random(f"{self._seed}/writer/{number}")
        for _ in range(WRITES):
            item = chance.choice(CALM + BROKEN + GHOSTS[:3])
            await (remove if chance.random() < 0.2 else publish)(postgres, item)
            envelope = (await read_latest(postgres, [stream(item)]))[stream(item)]
            assert envelope is not None
            self.history.append(read_change(envelope))
            await self._deliver([self.history[-1]])
            await self._deliver([chance.choice(self.history)])
            await asyncio.sleep(0)

    async def break_it(self) -> None:
        """Delete a key, roll it back, alter it at its version, or plant one without a head."""
        chance = random.Random(f"{self._seed}/breaker")
        for _ in range(BREAKS):
            item = stream(chance.choice(BROKEN + GHOSTS))
            seen = await self._store.versions([item])
            await self._store.delete_if_unchanged(list(seen.values()))
            older = [c for c in self.history if c.stream == item and item in seen]
            if older and chance.random() < 0.6:
                again = chance.choice(older)
                altered = replace(again, digest="0" * 32, event_id="0")
                await self._deliver([altered if chance.random() < 0.5 else again])
            elif "ghost" in item.key and self.history:
                ghost = replace(chance.choice(self.history), stream=item, version=99)
                await self._deliver([ghost])
            await asyncio.sleep(0)

    async def watch(self, stop: asyncio.Event) -> None:
        """Note where the version of a calm key falls, or the key is gone."""
        calm = list(map(stream, CALM))
        while not stop.is_set():
            shown = await self._store.versions(calm)
            for key, known in self._highest.items():
                version = shown[key].version if key in shown else 0
                if version < known:
                    self.fallen.append((key, known, version))
            self._highest |= {key: entry.version for key, entry in shown.items()}
            await asyncio.sleep(0)

    async def _deliver(self, changes: Iterable[Change]) -> None:
        with suppress(MessageRejected):  # a divergence parks its key; the repair mends it
            await self._store.apply(list(changes))


async def repair_again(
    postgres: Connection, store: Projection, enough: Callable[[], bool]
) -> tuple[int, int]:
    """Repair again and again until `enough`; returns how many repairs and how many keys."""
    rounds = keys = 0
    while not (enough() and rounds):
        async with open_check(postgres, store, CheckOptions(patience_seconds=0)) as drift:
            operation = Operation("ann", "drift repair", store.name, "a test")
            keys += (await repair(postgres, store, drift, ALL, operation)).done
        rounds += 1
        await asyncio.sleep(0)
    return rounds, keys


async def test_repair_beside_traffic_never_regresses_a_key_and_converges(
    postgres: Connection, store: Projection, tell: Callable[[str], None]
) -> None:
    """Two writers, late deliveries, a breaker of the store, and two repairs run at once."""
    traffic, stop = Traffic(store, SEED), asyncio.Event()
    connections = [
        await psycopg.AsyncConnection.connect(postgres.info.dsn, autocommit=True) for _ in range(4)
    ]
    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(traffic.watch(stop))
            busy = [
                *(group.create_task(traffic.write(connections[n], n)) for n in range(2)),
                group.create_task(traffic.break_it()),
            ]
            repairs = [
                group.create_task(
                    repair_again(each, store, lambda: all(task.done() for task in busy))
                )
                for each in connections[2:]
            ]
            done = await asyncio.gather(*repairs)
            stop.set()
            await watching
        tell(f"seed {SEED}: repairs and keys {done}, {len(traffic.history)} writes")
        assert traffic.fallen == []
        assert sum(keys for _, keys in done) > 0
        await repair_again(postgres, store, lambda: True)
        assert (await check_in_memory(postgres, store, CheckOptions(patience_seconds=0))).keys == 0
    finally:
        for each in connections:
            await each.close()
