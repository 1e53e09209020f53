"""How fast does the relay drain a backlog, compared with what its two ends can do alone?

`raw_fetch_per_s` reads the same rows with the relay's own statement and does nothing with them.
`raw_send_batch_per_s` takes such records, rendered beforehand, through create_batch, append and
send_batch, and does nothing else. `raw_send_packed_per_s` counts the time of send_batch only. A
program that fetches and sends in turn would reach the serial ceiling, 1 / (1/fetch + 1/send). The
relay is a process of its own, and its memory is watched meanwhile.

Weaknesses: all parts share the machine's cores; the mock broker writes nothing to a disk.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

from bench.rig.backlog import fill
from bench.rig.figure import Figure
from bench.rig.rig import Rig, fresh
from bench.rig.role_process import RoleProcess, wait_until_drained
from outbox.cursor.cut import Cut, CutReader, Row, Snapshot
from outbox.kafka import Publisher
from outbox.postgres.connection import connect
from outbox.relay.renderer import Renderer
from outbox.settings import Settings

SAMPLE = 100_000  # messages sent to learn the broker's rate; more would only fill our memory
ROUNDS = 3
CURSOR = Snapshot.parse("3:3:")  # before everything: where a new relay starts


@dataclass(frozen=True, slots=True)
class Rates:
    """Messages a second, and MiB of memory, all from one run over one backlog."""

    relay: float
    fetch: float
    send: float
    send_packed: float
    growth_mib: float


async def ask(rig: Rig) -> list[Figure]:
    """Measure the drain into the mock broker."""
    async with fresh(rig) as own:
        messages = rig.effort.messages
        rates = await measure(own, messages)
    ceiling = 1 / (1 / rates.fetch + 1 / rates.send)
    return [
        Figure("messages", messages, ""),
        Figure("relay_drain_per_s", rates.relay, "1/s", "150,000 on a quiet machine"),
        Figure("raw_fetch_per_s", rates.fetch, "1/s"),
        Figure("raw_send_batch_per_s", rates.send, "1/s"),
        Figure("raw_send_packed_per_s", rates.send_packed, "1/s"),
        Figure("serial_ceiling_per_s", ceiling, "1/s"),
        Figure("relay_ratio_to_ceiling", rates.relay / ceiling, "", "at least 0.5 of the ceiling"),
        Figure("drain_rss_growth_mib", rates.growth_mib, "MiB", "at most 20"),
    ]


async def measure(rig: Rig, messages: int) -> Rates:
    """Fill the empty outbox of `rig`; then fetch, send and drain it."""
    settings = rig.settings
    await fill(settings, messages)
    await _fetch(settings, 0)  # the first reader of fresh rows also marks them as committed
    fetch, sample = await _fetch(settings, min(SAMPLE, messages))
    send, send_packed = await _send(settings, sample)
    del sample
    async with RoleProcess(settings) as relay, _watched_memory(relay) as resident:
        seconds = await wait_until_drained(settings)
    grown = max(resident) - resident[len(resident) // 20]
    return Rates(messages / seconds, fetch, send, send_packed, grown)


async def _fetch(settings: Settings, keep: int) -> tuple[float, list[Row]]:
    """Return rows a second through the relay's own statement, and the first `keep` of them."""
    kept: list[Row] = []
    count = 0
    async with await connect(settings) as connection:
        reader = CutReader(connection, settings.page_messages, settings.page_bytes)
        await reader.prepare()
        cut = Cut(CURSOR, await reader.read_snapshot())
        started = perf_counter()
        async for page in reader.read_pages(cut):
            count += len(page)
            kept += islice(page, keep - len(kept))
    return count / (perf_counter() - started), kept


async def _send(settings: Settings, rows: list[Row]) -> tuple[float, float]:
    """Return records a second, packed and sent page by page; and those of the sending alone."""
    sending = 0.0
    pages = [
        rows[n : n + settings.page_messages] for n in range(0, len(rows), settings.page_messages)
    ]
    rendered = [list(map(Renderer(term=1).render, page)) for page in pages]
    async with Publisher(settings.kafka_url, 60.0) as publisher:
        began = perf_counter()
        for page in ROUNDS * rendered:
            packed = await publisher.prepare(page)
            started = perf_counter()
            await publisher.publish(packed.batches, 60.0)
            sending += perf_counter() - started
        total = perf_counter() - began
    return ROUNDS * len(rows) / total, ROUNDS * len(rows) / sending


@asynccontextmanager
async def _watched_memory(relay: RoleProcess) -> AsyncIterator[list[float]]:
    """Note the relay's resident MiB every 50 ms, for the length of the block."""
    seen = [relay.resident_mib()]

    async def watch() -> None:
        while True:
            await asyncio.sleep(0.05)
            seen.append(relay.resident_mib())

    task = asyncio.create_task(watch())
    yield seen
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
