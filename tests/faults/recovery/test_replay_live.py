"""Replays beside live traffic: no store falls back, and both end at the last committed state."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from consumers.neo4j.projection import connect
from consumers.projections.generations import LiveProjection
from consumers.projections.projection import Entry, Projection, StreamKey
from consumers.projections.testing.memory import MemoryProjection
from consumers.read_your_writes import wait_for
from consumers.settings import Settings
from outbox.relay.relay import Relay
from outbox.replay.source import ReplaySelection
from outbox.streams.heads import read_heads_of
from outbox.write.database import Database
from schemas.catalog import CatalogCreated, ItemEvent, ItemRemoved, ItemUpserted
from tests.kit.load.kills import SEED
from tests.kit.load.length import seconds
from tests.kit.load.roles import projecting, running
from tests.kit.load.writer import ended
from tests.kit.operations.replaying import FAST, record_replay, run_replay
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

KEYS = [StreamKey(ItemEvent.aggregate, f"c/{number}") for number in range(8)]
ROUNDS = int(seconds(3, 60))
LONG = 90


async def write(settings: Settings, rng: random.Random) -> None:
    """Publish items, changes and deletes until cancelled."""
    async with Database(settings, "load") as database:
        number = 0
        while True:
            item_id = str(rng.randrange(len(KEYS)))
            async with database.unit_of_work("change") as uow:
                if rng.random() < 0.2:
                    uow.publish(ItemRemoved(catalog_id="c", item_id=item_id))
                else:
                    name = f"n{number}"
                    uow.publish(ItemUpserted(catalog_id="c", item_id=item_id, name=name, text="t"))
                await uow.commit()
            number += 1
            await asyncio.sleep(0.01)


class Watched:
    """Looks at a store again and again, and records each version that falls."""

    def __init__(self, projection: Projection) -> None:
        self.fallen: list[tuple[StreamKey, int, int]] = []
        self.looks = 0
        self._projection = projection
        self._highest: dict[StreamKey, int] = {}

    async def run(self) -> None:
        while True:
            for stream, entry in (await self._projection.versions(KEYS)).items():
                highest = self._highest.get(stream, 0)
                if entry.version < highest:
                    self.fallen.append((stream, highest, entry.version))
                self._highest[stream] = max(highest, entry.version)
            self.looks += 1
            await asyncio.sleep(0.005)


@asynccontextmanager
async def going_on(*tasks: Any) -> AsyncIterator[None]:
    """Run each coroutine in a task; cancel it at the end of the block, or raise its error."""
    going = [asyncio.create_task(each) for each in tasks]
    try:
        yield
    finally:
        for each in going:
            if each.done():
                each.result()
            await ended(each)


async def replays(
    settings: Settings, connection: psycopg.AsyncConnection[Any], rng: random.Random
) -> int:
    """Run rounds of three overlapping replays: all, some keys for one consumer, and one type.

    Returns how many messages they sent.
    """
    sent = 0
    for _ in range(ROUNDS):
        some = [stream.key for stream in rng.sample(KEYS, 3)]
        each = [
            await record_replay(connection),
            await record_replay(connection, ReplaySelection(keys=some), consumer="neo4j"),
            await record_replay(
                connection, ReplaySelection(types=[ItemUpserted.type]), rate=FAST / 2
            ),
        ]
        done = await asyncio.gather(*(_run(settings, replay) for replay in each))
        assert {replay.status for replay in done} == {"done"}
        sent += sum(replay.sent for replay in done)
    return sent


async def _run(settings: Settings, replay: Any) -> Any:
    async with await psycopg.AsyncConnection.connect(
        settings.libpq_url(), autocommit=True
    ) as connection:
        return await run_replay(settings, connection, replay)


async def test_replays_beside_live_traffic_disturb_no_store_and_no_order(
    settings: Settings,
    graph: LiveProjection,
    postgres: psycopg.AsyncConnection[Any],
    tell: Callable[[str], None],
) -> None:
    """C25, O1: three overlapping replays at a time, again and again."""
    rng = random.Random(SEED)
    small = settings.model_copy(update={"page_messages": 40})
    memory = MemoryProjection([ItemEvent.aggregate, CatalogCreated.aggregate], [ItemEvent.topic])
    stores: Sequence[Projection] = (memory, graph)
    watched = [Watched(store) for store in stores]
    runners = (projecting(small, store) for store in stores)
    async with (
        Witness(settings, ItemEvent.topic) as witness,
        running(Relay(small), *runners),
    ):

        async def has_messages_to_replay() -> bool:
            return len(witness.seen.order) >= 50

        async with going_on(*(each.run() for each in watched)):
            async with going_on(write(settings, rng)):
                await until(has_messages_to_replay, LONG)
                before = len(witness.seen.order)
                sent = await replays(small, postgres, rng)
            heads = await read_heads_of(postgres, KEYS)
            for store in stores:
                waited = await wait_for(store, {s: h.version for s, h in heads.items()}, LONG)
                assert not waited.left, waited
        verdict = await witness.saw_all()
    assert verdict.at_least_once, verdict
    assert verdict.committed > before, "nobody wrote beside the replays"
    assert witness.seen.copies, "no replay reached the topic"
    for each in watched:
        assert each.fallen == [], each.looks
    for store in stores:
        assert await store.versions(KEYS) == heads
    assert await names_in(settings) == names_of(memory, heads), (
        "the graph differs from the last events"
    )
    tell(f"{verdict.committed} committed, {sent} replayed, SEED={SEED}")


async def names_in(settings: Settings) -> dict[str, str]:
    """The name of each live item in the graph, by key."""
    password = settings.neo4j_password.get_secret_value()
    async with connect(settings.neo4j_url, settings.neo4j_user, password) as driver:
        found = await driver.execute_query(
            "MATCH (n:Item) WHERE NOT n.deleted RETURN n.key AS key, n.name AS name",
            database_=settings.neo4j_database,
        )
    return {row["key"]: row["name"] for row in found.records}


def names_of(memory: MemoryProjection, heads: dict[StreamKey, Entry]) -> dict[str, str]:
    """The name of each live item in memory, by key."""
    live = [stream for stream, head in heads.items() if not head.deleted]
    return {stream.key: getattr(memory.state[stream].event, "name", "") for stream in live}
