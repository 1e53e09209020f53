"""How long does it take from commit to the broker's acknowledgement?

600 events a second are written, and single events after a rest. It is an open loop: an event is due
every 1/600 s, whatever happened to the one before, each in a transaction of its own. The time is
from the return of COMMIT in the writer to the acknowledgement in the relay; the two processes share
one monotonic clock. The figures are held against 2 ms (median) and 10 ms (99th percentile). A peer
that reads PostgreSQL's log needs 0.9 and 9.2 ms, one that uses NOTIFY 2.2 and 9.6 ms.

Weakness: one connection writes, so a slow commit delays the next event's commit, not its figure.
"""

import asyncio
import json
import time
from collections.abc import Iterator

import psycopg

from bench.rig.figure import Figure, percentile
from bench.rig.rig import Rig, fresh
from bench.rig.role_process import RoleProcess, wait_until_drained
from bench.rig.schedule import wait_until
from outbox.settings import Settings

EVENTS_PER_SECOND = 600
WARM_UP_SECONDS = 1.0
REST_SECONDS = 1.0
PUBLISH = """
    SELECT position FROM outbox.publish('bench.sample', %s, 'bench.happened.v1', '{"text": "x"}')
"""


async def ask(rig: Rig) -> list[Figure]:
    """Measure with both brokers; there are no figures for a real one where none can run."""
    async with fresh(rig) as own:
        p50, p99, rest = await _measure(own)
    figures = [
        Figure("latency_p50_ms", p50, "ms", "at most 2"),
        Figure("latency_p99_ms", p99, "ms", "at most 10"),
        Figure("first_after_rest_ms", rest, "ms", "at most 60"),
    ]
    async with fresh(rig, real=True) as own:
        if own.kafka is None:
            p50 = p99 = None
        else:
            p50, p99, _ = await _measure(own)
        why = own.why_no_kafka or "beside it, no target"
    return [
        *figures,
        Figure("latency_kafka_p50_ms", p50, "ms", why),
        Figure("latency_kafka_p99_ms", p99, "ms", why),
    ]


async def _measure(rig: Rig) -> tuple[float | None, float | None, float]:
    """Return milliseconds: median and 99th percentile under load, and the slowest after a rest."""
    async with RoleProcess(rig.settings, "-m", "bench.rig.observed") as relay:
        steady = await asyncio.to_thread(_write_steadily, rig.settings, rig.effort.latency_seconds)
        rested = await asyncio.to_thread(_write_rarely, rig.settings, rig.effort.rests)
        await wait_until_drained(rig.settings)
        acknowledged = {int(key): at for key, at in json.loads(await relay.stop()).items()}
    loaded = [1000 * (acknowledged[position] - at) for position, at in steady]
    first = [1000 * (acknowledged[position] - at) for position, at in rested]
    return percentile(loaded, 50), percentile(loaded, 99), max(first)


def _write_steadily(settings: Settings, seconds: float) -> list[tuple[int, float]]:
    """Return positions and commit times, without those of the warm-up."""
    warm = int(WARM_UP_SECONDS * EVENTS_PER_SECOND)
    with psycopg.connect(settings.libpq_url(), autocommit=True) as connection:
        due = time.monotonic()
        committed = []
        for number in range(warm + int(seconds * EVENTS_PER_SECOND)):
            wait_until(due + number / EVENTS_PER_SECOND)
            committed.append(_commit(connection, number))
    return committed[warm:]


def _write_rarely(settings: Settings, times: int) -> Iterator[tuple[int, float]]:
    committed = []
    with psycopg.connect(settings.libpq_url(), autocommit=True) as connection:
        for number in range(times):
            time.sleep(REST_SECONDS)
            committed.append(_commit(connection, number))
    return iter(committed)


def _commit(connection: psycopg.Connection, number: int) -> tuple[int, float]:
    row = connection.execute(PUBLISH, [f"sample-{number % 500}"], prepare=True).fetchone()
    assert row is not None  # noqa: S101 - the function returns one row
    return row[0], time.monotonic()
