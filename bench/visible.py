"""How long does it take from commit until a store shows the event, at 200 events a second?

It is an open loop (an event is due at set moments, whatever happened to the one before) through
every part: PostgreSQL, relay, broker, consumer, store. Each event is a new version of one of 500
items, with a text that is embedded. The time is from the return of COMMIT in the writer to the
return of `apply` in the consumer, which is when the store shows the event. The figures are held
against 60 ms (median) and 300 ms (99th percentile). The broker is the real one where it can run: at
the stand-in a fetch that finds nothing waits for its whole time, even if a message comes meanwhile.

Weakness: the graph and the broker compile while they work. On two cores they are slower for their
first half minute, and the warm-up of the quick form is shorter than that.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence

import psycopg

from bench.rig.effort import Effort
from bench.rig.figure import Figure, percentile
from bench.rig.items import changes
from bench.rig.rig import Rig, best
from bench.rig.role_process import RoleProcess, wait_until_drained
from bench.rig.schedule import wait_until
from bench.rig.stores import vectors_part
from outbox.kafka import count_unread, group_of
from outbox.settings import Settings
from schemas.catalog import CatalogCreated, ItemEvent
from stack.part import Part

EVENTS_PER_SECOND = 200
KEYS = 500
SETTLE_SECONDS = 120.0
PUBLISH = """
    SELECT version FROM outbox.publish(%s, %s, %s, %s::jsonb, topic => %s)
"""


async def ask(rig: Rig) -> list[Figure]:
    """Measure both stores, one after the other.

    The second store's consumer first reads all that was published for the first one.
    """
    async with best(rig, [ItemEvent.topic, CatalogCreated.topic]) as own:
        assert own.kafka is not None  # noqa: S101 - `best` always has a broker
        async with vectors_part(rig) as part:
            key = part.api_key.get_secret_value() if part.api_key else ""
            variables = {"QDRANT_URL": part.url, "QDRANT_API_KEY": key}
            vectors = await _measure(own, own.kafka, "qdrant", variables)
        graph = await rig.graphs.empty()
        variables = {
            "NEO4J_URL": graph.url,
            "NEO4J_USER": graph.user,
            "NEO4J_PASSWORD": graph.password.get_secret_value(),
            "NEO4J_DATABASE": graph.database,
        }
        nodes = await _measure(own, own.kafka, "neo4j", variables)
        through = own.kafka.provider
    return [
        *_make_figures("qdrant", vectors, f"{through}, {part.provider}"),
        *_make_figures("graph", nodes, f"{through}, {graph.provider}"),
    ]


def _make_figures(name: str, waits: Sequence[float], through: str) -> list[Figure]:
    return [
        Figure(f"visible_{name}_p50_ms", percentile(waits, 50), "ms", f"at most 60; {through}"),
        Figure(f"visible_{name}_p99_ms", percentile(waits, 99), "ms", "at most 300"),
    ]


async def _measure(
    rig: Rig, broker: Part, projection: str, variables: Mapping[str, str]
) -> list[float]:
    """Return the milliseconds of each event after the warm-up."""
    waits = {"AFTERCOMMIT_FETCH_WAIT_MILLISECONDS": "20"} if broker.stand_in else {}
    consumer = RoleProcess(
        rig.settings, "-m", "bench.rig.observed_projection", projection,
        ready="consuming", environment={**variables, **waits},
    )  # fmt: skip
    async with RoleProcess(rig.settings), consumer:
        written = await asyncio.to_thread(_write, rig.settings, rig.effort)
        await _wait_until_caught_up(rig.settings, projection)
        applied: dict[str, float] = json.loads(await consumer.stop())
    return [1000 * (applied[event] - at) for event, at in written]


async def _wait_until_caught_up(settings: Settings, projection: str) -> None:
    """Return once the relay has published all, and the consumer has committed all of it."""
    topics, group = [ItemEvent.topic], group_of(projection)
    async with asyncio.timeout(SETTLE_SECONDS):
        await wait_until_drained(settings)
        while await count_unread(settings.kafka_url, group, topics):  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.2)


def _write(settings: Settings, effort: Effort) -> list[tuple[str, float]]:
    """Return `key version` and commit time of each event, without those of the warm-up."""
    warm = int(effort.visible_warm_seconds * EVENTS_PER_SECOND)
    items = changes(0, KEYS, 1)
    committed = []
    with psycopg.connect(settings.libpq_url(), autocommit=True) as connection:
        due = time.monotonic()
        for number in range(warm + int(effort.visible_seconds * EVENTS_PER_SECOND)):
            wait_until(due + number / EVENTS_PER_SECOND)
            change = items[number % KEYS]
            text = f"the item as of event {number}, as long as a text of a catalog may well be"
            payload = change.event.model_copy(update={"text": text})
            values = [
                change.stream.aggregate, change.stream.key, change.event.type,
                payload.model_dump_json(), change.event.topic,
            ]  # fmt: skip
            row = connection.execute(PUBLISH, values, prepare=True).fetchone()
            assert row is not None  # noqa: S101 - the function returns one row
            committed.append((f"{change.stream.key} {row[0]}", time.monotonic()))
    return committed[warm:]
