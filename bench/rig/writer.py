"""A writer as a process of its own: `python -m bench.rig.writer WAY SLICES SECONDS SEED`.

It prints READY once it is connected, and reads the moment to begin from its standard input. It goes
through the variants slice by slice, at moments that all writers share. It ends with one line of
JSON: how many transactions of each variant it committed, at least one in each slice. WAY is how it
writes: `driver` is psycopg with the product's statement, `unit` is UnitOfWork over SQLAlchemy.
"""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic

import psycopg
from sqlalchemy import text

from bench.rig.sample_event import SampleEvent
from outbox.runtime import logs
from outbox.runtime.output import say, say_json
from outbox.settings import Settings
from outbox.write.database import Database
from outbox.write.publishing import commit_messages

SAMPLES = 20_000  # rows, so that writers seldom meet
VARIANTS = {"none": 0, "one": 1, "ten": 10, "ten_keys": 10}
UPDATE = "UPDATE samples SET n = n + 1 WHERE id = %s"
READY = b"ready"

Transaction = Callable[[str, int], Awaitable[None]]


def events(variant: str, sample: int) -> list[SampleEvent]:
    """Return what a transaction publishes: events about its own sample, or about ten samples."""
    step = 1 if variant == "ten_keys" else 0
    return [SampleEvent(sample=f"sample-{sample + n * step}") for n in range(VARIANTS[variant])]


@asynccontextmanager
async def by_driver(settings: Settings) -> AsyncIterator[Transaction]:
    async with await psycopg.AsyncConnection.connect(settings.libpq_url()) as connection:

        async def transaction(variant: str, sample: int) -> None:
            await connection.execute(UPDATE, [sample], prepare=True)
            if messages := events(variant, sample):
                await commit_messages(connection, messages)
            else:
                await connection.commit()

        yield transaction


@asynccontextmanager
async def by_unit(settings: Settings) -> AsyncIterator[Transaction]:
    update = text("UPDATE samples SET n = n + 1 WHERE id = :id")
    async with Database(settings, "bench") as database:

        async def transaction(variant: str, sample: int) -> None:
            async with database.unit_of_work("bench") as uow:
                await uow.connection.execute(update, {"id": sample})
                for event in events(variant, sample):
                    uow.publish(event)
                await uow.commit()

        yield transaction


WAYS = {"driver": by_driver, "unit": by_unit}


async def write(way: str, slices: int, seconds: float, seed: int) -> Counter[str]:
    """Count the transactions of each variant that were committed within its slices."""
    rng = random.Random(seed)  # noqa: S311 - a load, not a secret
    done: Counter[str] = Counter()
    async with WAYS[way](Settings()) as transaction:
        begin = await asyncio.to_thread(_read_begin)
        for number, variant in enumerate(list(VARIANTS) * slices):
            await asyncio.sleep(max(0.0, begin + number * seconds - monotonic()))
            until = begin + (number + 1) * seconds
            await transaction(variant, rng.randrange(SAMPLES))
            done[variant] += 1
            while monotonic() < until:
                await transaction(variant, rng.randrange(SAMPLES))
                done[variant] += monotonic() < until
    return done


def _read_begin() -> float:
    """Report that we are ready, and return when all begin, on the clock that they share."""
    say(READY.decode())
    return float(sys.stdin.readline())


if __name__ == "__main__":
    logs.configure("console", "warning")
    way, slices, seconds, seed = sys.argv[1:]
    done = asyncio.run(write(way, int(slices), float(seconds), int(seed)))
    say_json(done)
