"""How fast does the relay drain a backlog, against what its two ends can do alone?

`raw_fetch_per_s` reads the same rows with the relay's own statement and does nothing with them;
`raw_send_batch_per_s` sends the same records, rendered and packed beforehand, and does nothing
else. Both in turn would give the serial ceiling 1 / (1/fetch + 1/send).
"""

import asyncio
from dataclasses import asdict, dataclass
from time import perf_counter

import psycopg
from pydantic import SecretStr

from outbox.cut import Cut, CutReader, Row
from outbox.kafka import Publisher
from outbox.lease import take
from outbox.migrate import migrate, outbox_migrations
from outbox.progress import read_progress
from outbox.record import Renderer
from outbox.relay import Relay, connect
from outbox.settings import Settings
from outbox.status import read_status
from stack.machine import Machine

KEYS = 10_000
PAYLOAD_BYTES = 250

# As 100 transactions would have left them: a backlog over 10,000 keys, versions and all.
FILL = """
INSERT INTO outbox.messages
    (position, id, aggregatetype, aggregateid, type, version, topic, payload)
SELECT nextval('outbox.positions'), gen_random_uuid(), 'bench.thing', 'thing-' || n %% %(keys)s,
       'bench.happened.v1', n / %(keys)s + 1, 'bench.thing.events',
       '{"text":"' || repeat('x', %(bytes)s) || '"}'
FROM generate_series(%(first)s::int, %(last)s::int) AS n
"""


@dataclass(frozen=True)
class Drain:
    """Messages a second, all from one run."""

    relay_drain_per_s: float
    raw_fetch_per_s: float
    raw_send_batch_per_s: float
    serial_ceiling_per_s: float
    relay_ratio_to_ceiling: float

    def rows(self) -> list[tuple[str, str]]:
        return [(name, f"{value:,.2f}") for name, value in asdict(self).items()]


async def measure(machine: Machine, messages: int) -> Drain:
    """Fill a fresh outbox with `messages`, then fetch, send and drain them."""
    settings = Settings(
        postgres_url=SecretStr(machine.postgres.url),
        kafka_url=machine.kafka.url,
        publish_timeout_seconds=30.0,
    )
    await migrate(settings.libpq_url(), outbox_migrations())
    await _fill(settings, messages)
    await _raw_fetch(settings)  # the first reader of fresh rows also marks them as committed
    fetch, rows = await _raw_fetch(settings)
    send = await _raw_send(settings, rows)
    relay = messages / await _drain(settings)
    ceiling = 1 / (1 / fetch + 1 / send)
    return Drain(relay, fetch, send, ceiling, relay / ceiling)


async def _fill(settings: Settings, messages: int) -> None:
    async with await connect(settings) as connection:
        step = max(1, messages // 100)
        for first in range(0, messages, step):
            last = min(first + step, messages) - 1
            parameters = {"keys": KEYS, "bytes": PAYLOAD_BYTES, "first": first, "last": last}
            await connection.execute(FILL, parameters)
        await connection.execute("CHECKPOINT")


async def _raw_fetch(settings: Settings) -> tuple[float, list[Row]]:
    async with await connect(settings) as connection:
        lease = await take(connection, "bench", 60.0)
        assert lease is not None  # noqa: S101 - nobody else is here
        progress = await read_progress(connection)
        reader = CutReader(connection, settings.page_messages, settings.page_bytes)
        await reader.prepare()
        cut = Cut(progress.cursor, await reader.snapshot())
        started = perf_counter()
        rows = [row async for page in reader.pages(cut) for row in page]
        rate = len(rows) / (perf_counter() - started)
        await lease.release(connection)
    return rate, rows


async def _raw_send(settings: Settings, rows: list[Row]) -> float:
    async with Publisher(settings.kafka_url, 60.0) as publisher:
        records = map(Renderer(term=1).record, rows)
        batches = (await publisher.prepare(records)).batches
        started = perf_counter()
        await publisher.publish(batches, 60.0)
        return len(rows) / (perf_counter() - started)


async def _drain(settings: Settings) -> float:
    """Seconds from the relay's start until PostgreSQL shows everything as acknowledged."""
    relay = Relay(settings)
    started = perf_counter()
    running = asyncio.create_task(relay.run())
    async with await psycopg.AsyncConnection.connect(
        settings.libpq_url(), autocommit=True
    ) as connection:
        while not await _drained(connection):  # noqa: ASYNC110 - another session's progress
            await asyncio.sleep(0.02)
    seconds = perf_counter() - started
    relay.stop()
    await running
    return seconds


async def _drained(connection: psycopg.AsyncConnection) -> bool:
    """Cheap to ask: the relay clears `upto` when the cut is done; the exact count comes last."""
    row = await (
        await connection.execute("SELECT published > 0 AND upto IS NULL FROM outbox.relay")
    ).fetchone()
    return bool(row and row[0]) and (await read_status(connection)).pending == 0
