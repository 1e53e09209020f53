"""Term: one term of leadership, over one connection and one carrier; ends with any error."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from typing import Any, Self

import psycopg
import structlog

from outbox.cursor.cut import Cut, CutReader, Row, Snapshot
from outbox.cursor.lease import Lease
from outbox.cursor.progress import Progress, advance, read_progress
from outbox.errors import DependencyDown, LeaseLost
from outbox.kafka import Packed, Stream, read_stream
from outbox.postgres.deadline import Deadline
from outbox.relay.page_size import PageSize
from outbox.relay.parked_keys import ParkedKeys, collect_unacknowledged
from outbox.relay.partition_counts import read_topics, record_topics
from outbox.relay.renderer import Renderer
from outbox.relay.sender import Sender, SendResult
from outbox.retention.create_ahead import PartitionCreator
from outbox.runtime.failpoints import Failpoint, failpoint
from outbox.settings import Settings

log = structlog.get_logger()

# Losing the last progress in a crash of PostgreSQL repeats messages, as any crash may; waiting for
# the disk once a page would buy nothing.
SESSION = "SET synchronous_commit = off"


@dataclass(slots=True)
class Page:
    """Rows on their way: those that flow, packed, and those whose key is parked."""

    rows: Sequence[Row]
    packed: Packed
    streams: list[Stream]
    positions: list[int]

    @property
    def last_position(self) -> int:
        return self.rows[-1].position


class Term:
    """Publishes cut after cut. Made by `Relay` once the lease is taken."""

    def __init__(
        self,
        settings: Settings,
        connection: psycopg.AsyncConnection[Any],
        lease: Lease,
        size: PageSize | None = None,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._lease = lease
        self._size = size or PageSize(settings)
        self._reader = CutReader(connection, self._size.messages, self._size.bytes)
        self._renderer = Renderer(lease.term)
        self._partitions = PartitionCreator(settings)
        self._parked = ParkedKeys(connection)
        self._topics: dict[str, int] = {}
        self._carrier = Sender(settings, lease, self._topics, self._keep)
        self._held = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._connection.execute(SESSION)
        self._progress = await read_progress(self._connection)
        self._topics.update(await read_topics(self._connection))
        await self._parked.load()
        await self._reader.prepare()
        await self._held.enter_async_context(self._carrier)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._held.aclose()

    async def publish_next_cut(self, stopping: asyncio.Event) -> bool:
        """Publish what is new; False when there was nothing. Stops early between pages."""
        await self._keep()
        await self._partitions.keep(self._connection)
        if self._progress.upto is not None:
            return await self._publish_large(self._progress.upto, stopping)
        for stream in await self._parked.find_released():
            await self._publish_released(stream)
        async with Deadline(self._lease.seconds):  # asked all the time, so the first to be unheard
            upto = await self._reader.read_snapshot()
        if upto.is_same_as(self._progress.cursor):
            return False
        return await self._publish_upto(upto, stopping)

    async def _keep(self) -> None:
        await self._lease.keep(self._connection)

    async def _publish_upto(self, upto: Snapshot, stopping: asyncio.Event) -> bool:
        cut = Cut(self._progress.cursor, upto)
        rows = await self._reader.read_small_cut(cut)
        if rows is None:
            first = (await self._reader.measure(cut)).first_position or 1
            await self._advance(Progress(cut.cursor, upto, first - 1), SendResult())
            return await self._publish_large(upto, stopping)
        done = Progress(upto, None, rows[-1].position if rows else 0)
        if rows:
            page = await self._pack(rows)
            await self._settle(done, page, await self._send_all(page.packed))
        self._progress = done  # where nothing was sent, the row keeps the older cursor
        return bool(rows)

    async def _publish_large(self, upto: Snapshot, stopping: asyncio.Event) -> bool:
        """Page by page: the next one is read and packed while the last one is in flight."""
        cut = Cut(self._progress.cursor, upto, self._progress.position)
        flight = _Flight()
        async with aclosing(flight), aclosing(self._reader.read_pages(cut)) as pages:
            async for rows in pages:
                page = await self._pack(rows)
                if await self._land(flight, upto):
                    page = await self._pack(rows)  # it may hold keys that were parked just now
                if stopping.is_set():
                    return True
                flight.start(asyncio.create_task(self._send_all(page.packed)), page)
            await self._land(flight, upto)
        await self._advance(Progress(upto), SendResult())
        return True

    async def _land(self, flight: "_Flight", upto: Snapshot) -> bool:
        """Whether the page that was in flight has parked a key."""
        if flight.task is None or flight.page is None:
            return False
        carried = await flight.task
        flight.task = None
        done = Progress(self._progress.cursor, upto, flight.page.last_position)
        await self._settle(done, flight.page, carried)
        return bool(carried.refused)

    async def _publish_released(self, stream: Stream) -> None:
        """One page of what waited for this key; the rest comes after the next cut."""
        self._carrier.routes.forget_refusals()
        rows = await self._parked.read_waiting(stream, self._settings.page_messages)
        carried = await self._send_all(await self._carrier.pack(map(self._renderer.render, rows)))
        left = {record.position for record in collect_unacknowledged(carried)}
        async with self._connection.transaction():
            await self._advance(self._progress, carried)
            await self._parked.park(carried.refused.values())
            done = [row.position for row in rows if row.position not in left]
            flows = await self._parked.unpark(stream, done)
        if flows:
            self._parked.note_unparked(stream)
            log.info("key flows again", key=stream.key.decode(), messages=len(done))

    async def _pack(self, rows: Sequence[Row]) -> Page:
        failpoint(Failpoint.ROWS_READ)
        flowing, streams, positions = self._parked.split(rows)
        packed = await self._carrier.pack(map(self._renderer.render, flowing))
        return Page(rows, packed, streams, positions)

    async def _send_all(self, packed: Packed) -> SendResult:
        await record_topics(self._connection, self._carrier.routes.counts, self._topics)
        carried = await self._carrier.send_all(packed)
        failpoint(Failpoint.BATCHES_ACKNOWLEDGED)
        return carried

    async def _settle(self, progress: Progress, page: Page, carried: SendResult) -> None:
        """The page is accounted for: acknowledged, or parked in the same transaction."""
        refused = collect_unacknowledged(carried)
        if not refused and not page.positions:
            return await self._advance(progress, carried)
        async with self._connection.transaction():
            await self._advance(progress, carried)
            await self._parked.park(carried.refused.values())
            await self._parked.add_waiting(map(read_stream, refused), [r.position for r in refused])
            await self._parked.add_waiting(page.streams, page.positions)
        self._parked.note_parked(carried.refused)
        for stream, each in carried.refused.items():
            log.error("key parked", key=stream.key.decode(), reason=each.reason)
        return None

    async def _advance(self, progress: Progress, carried: SendResult) -> None:
        await advance(self._connection, self._lease, progress, carried.deliveries)
        self._progress = progress
        if carried.deliveries:
            self._size.grow()
            self._reader.resize(self._size.messages, self._size.bytes)


class _Flight:
    """The page in flight, if one is; awaited or cancelled before the term ends."""

    def __init__(self) -> None:
        self.task: asyncio.Task[SendResult] | None = None
        self.page: Page | None = None

    def start(self, task: asyncio.Task[SendResult], page: Page) -> None:
        self.task, self.page = task, page

    async def aclose(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError, DependencyDown, LeaseLost):
                await self.task
