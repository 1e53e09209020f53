"""How much slower is a domain transaction that publishes events?

Eight writers, each a process with one connection, do one UPDATE of one row in each transaction:
without an event, with one, with ten of that row's key, and with ten of ten keys. They change
between these in short slices, so that noise meets all of them alike. The ratio is transactions a
second with events, divided by those without. `write_ratio_*` is psycopg with `commit_messages`;
`*_unit_of_work` is the whole UnitOfWork over SQLAlchemy, compared with a UnitOfWork without an
event. The rows exist before, and so do their stream heads.

PostgreSQL is durable (fsync on), and the disk is whatever the machine has. Weakness: on two cores
the writers' own Python is most of what is measured.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from time import monotonic

from bench.rig.figure import Figure
from bench.rig.rig import Rig, fresh
from bench.rig.writer import READY, SAMPLES
from outbox.postgres.connection import connect
from outbox.settings import Settings

WRITERS = 8
READY_SECONDS = 300.0
START_SECONDS = 0.5  # until all have read when to begin
SAMPLES_TABLE = (
    "CREATE TABLE samples (id integer PRIMARY KEY, n integer NOT NULL) WITH (fillfactor = 50)"
)
SAMPLES_ROWS = "INSERT INTO samples SELECT id, 0 FROM generate_series(0, %s) AS id"
# The stream heads that the transactions which inserted the rows would have left.
HEADS = """
INSERT INTO outbox.streams (aggregatetype, aggregateid, version, position, digest)
SELECT 'bench.sample', 'sample-' || id, 1, nextval('outbox.positions'), repeat('0', 32)
FROM samples
"""


async def ask(rig: Rig) -> list[Figure]:
    """Measure both ways of writing."""
    driver, unit = await _measure(rig, "driver"), await _measure(rig, "unit")
    seconds = rig.effort.write_slices * rig.effort.write_slice_seconds

    def ratio(done: Counter[str], variant: str) -> float:
        return done[variant] / done["none"]

    return [
        Figure("write_none_per_s", driver["none"] / seconds, "1/s", "one UPDATE a transaction"),
        Figure("write_ratio_1", ratio(driver, "one"), "", "at least 0.70"),
        Figure("write_ratio_10", ratio(driver, "ten"), "", "at least 0.45"),
        Figure("write_ratio_10_keys", ratio(driver, "ten_keys"), "", "ten keys, ten heads"),
        Figure("write_ratio_1_unit_of_work", ratio(unit, "one"), ""),
        Figure("write_ratio_10_unit_of_work", ratio(unit, "ten"), ""),
    ]


async def _measure(rig: Rig, way: str) -> Counter[str]:
    async with fresh(rig) as own:
        await prepare(own.settings)
        writers = [await _start(own, way, seed) for seed in range(WRITERS)]
        for writer in writers:
            await _wait_until_ready(writer)
        begin = f"{monotonic() + START_SECONDS}\n".encode()
        done = await asyncio.gather(*(writer.communicate(begin) for writer in writers))
        return sum((Counter(json.loads(output)) for output, _ in done), Counter())


async def prepare(settings: Settings) -> None:
    """Insert the rows that the writers change, and their stream heads."""
    async with await connect(settings) as connection:
        await connection.execute(SAMPLES_TABLE)
        await connection.execute(SAMPLES_ROWS, [SAMPLES + WRITERS])
        await connection.execute(HEADS)
        await connection.execute("ANALYZE")
        await connection.execute("CHECKPOINT")


async def _start(rig: Rig, way: str, seed: int) -> Process:
    effort = rig.effort
    arguments = (way, str(effort.write_slices), str(effort.write_slice_seconds), str(seed))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.rig.writer", *arguments, stdin=PIPE, stdout=PIPE,
        env=os.environ | {"POSTGRES_URL": rig.settings.libpq_url()},
    )  # fmt: skip


async def _wait_until_ready(writer: Process) -> None:
    """Return once the writer is connected, however long a busy machine takes for that."""
    assert writer.stdout is not None  # noqa: S101 - it was asked for
    async with asyncio.timeout(READY_SECONDS):
        if (await writer.stdout.readline()).strip() != READY:
            raise RuntimeError("a writer ended before it was ready")
