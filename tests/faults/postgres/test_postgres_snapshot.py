"""A snapshot that is held open keeps every dead row version: P18.

The relay reads messages that are never updated, so a poll costs what it did before. Its own row has
a dead version for each page that was acknowledged; it finds the live version by its place.
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from statistics import median
from typing import Any

import psycopg
import pytest

from consumers.settings import Settings
from outbox.cursor.cut import CutReader
from outbox.relay import term
from outbox.relay.relay import Relay
from tests.kit.load.length import LONG
from tests.kit.load.roles import running
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.faults_only, pytest.mark.timeout(1_800)]

MESSAGES = 1_000_000 if LONG else 100_000
KEYS = 5_000
A_TRANSACTION = 20
POLLS = 400
TIMES_AS_LONG = 3
WITHIN_SECONDS = 600.0

PUBLISH = """
    SELECT outbox.publish('faults.thing', 'thing-' || n %% %(keys)s, 'faults.happened.v1',
                          jsonb_build_object('thing', 'thing-' || n %% %(keys)s))
    FROM generate_series(%(first)s::integer, %(last)s::integer) AS n
"""


class Stopwatch:
    """Measures how long each call of some coroutine functions took, in seconds, by their names."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    @contextmanager
    def on(self, owner: Any, name: str) -> Iterator[None]:
        original, times = getattr(owner, name), self.times.setdefault(name, [])

        async def measured(*arguments: Any) -> Any:
            since = time.perf_counter()
            result = await original(*arguments)
            times.append(time.perf_counter() - since)
            return result

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(owner, name, measured)
            yield

    def reset(self) -> None:
        for times in self.times.values():
            times.clear()

    def medians(self) -> dict[str, float]:
        """Return the median of each function, since the last reset."""
        return {name: median(times) for name, times in self.times.items()}


@asynccontextmanager
async def held_snapshot(url: str) -> AsyncIterator[None]:
    """Hold a REPEATABLE READ transaction that has read, for the length of the block."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await connection.execute("SELECT count(*) FROM outbox.relay")
        yield


async def test_a_snapshot_that_is_held_open_makes_no_poll_slower(
    settings: Settings, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """P18, I2: compared by medians with the same relay before.

    Asking for a snapshot reads no table: if that is slower, the machine is slower.
    """
    watch = Stopwatch()
    with (
        watch.on(CutReader, "read_snapshot"),
        watch.on(CutReader, "read_small_cut"),
        watch.on(term, "advance"),
    ):
        async with running(Relay(settings)):
            await polls(postgres, watch)
            before = await polls(postgres, watch)
            async with held_snapshot(settings.libpq_url()):
                await publish(postgres, MESSAGES)
                await witness.saw_all(WITHIN_SECONDS)  # it reads on our time
                after = await polls(postgres, watch)
            verdict = await witness.saw_all()
    assert verdict.at_least_once, verdict
    slower = {name: after[name] / before[name] for name in before}
    assert max(slower.values()) <= TIMES_AS_LONG * slower["read_snapshot"], (before, after)


async def polls(postgres: psycopg.AsyncConnection, watch: Stopwatch) -> dict[str, float]:
    """Return the medians over as many polls as find one message."""
    watch.reset()
    pages = watch.times["advance"]
    for number in range(POLLS):
        await publish(postgres, 1)

        async def acknowledged(number: int = number) -> bool:
            return len(pages) > number

        await until(acknowledged, WITHIN_SECONDS, 0.001)
    return watch.medians()


async def publish(postgres: psycopg.AsyncConnection, messages: int) -> None:
    for first in range(1, messages + 1, A_TRANSACTION):
        last = min(first + A_TRANSACTION - 1, messages)
        await postgres.execute(PUBLISH, {"keys": KEYS, "first": first, "last": last}, prepare=True)
