"""Term: one term of a leading relay, with one connection and one sender; any error ends it."""

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

# If PostgreSQL crashes and loses the last progress, messages are repeated, as after any other
# crash. So waiting for the disk after each page would gain nothing.
SESSION = "SET synchronous_commit = off"


@dataclass(slots=True)
class Page:
    """A page of rows: `packed` has those that flow.

    `streams` and `positions` are the keys and positions of the rows whose key is parked.
    """

    rows: Sequence[Row]
    packed: Packed
    streams: list[Stream]
    positions: list[int]

    @property
    def last_position(self) -> int:
        return self.rows[-1].position


class Term:
    """Publishes cut after cut. `Relay` makes one when it has taken the lease."""

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
        self._sender = Sender(settings, lease, self._topics, self._renew_lease)
        self._held = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._connection.execute(SESSION)
        self._progress = await read_progress(self._connection)
        self._topics.update(await read_topics(self._connection))
        await self._parked.load()
        await self._reader.prepare()
        await self._held.enter_async_context(self._sender)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._held.aclose()

    async def publish_next_cut(self, stopping: asyncio.Event) -> bool:
        """Publish what is new; return False where there was nothing.

        Once `stopping` is set, it returns after the page in flight.
        """
        await self._renew_lease()
        await self._partitions.create_when_due(self._connection)
        if self._progress.upto is not None:
            return await self._publish_large(self._progress.upto, stopping)
        for stream in await self._parked.find_released():
            await self._publish_released(stream)
        # This is the most frequent query, so the first that finds a server which does not answer.
        async with Deadline(self._lease.seconds):
            upto = await self._reader.read_snapshot()
        if upto.is_same_as(self._progress.cursor):
            return False
        return await self._publish_upto(upto, stopping)

    async def _renew_lease(self) -> None:
        await self._lease.renew_when_due(self._connection)

    async def _publish_upto(self, upto: Snapshot, stopping: asyncio.Event) -> bool:
        cut = Cut(self._progress.cursor, upto)
        rows = await self._reader.read_small_cut(cut)
        if rows is None:
            first = (await self._reader.measure(cut)).first_position or 1
            await self._record_progress(Progress(cut.cursor, upto, first - 1), SendResult())
            return await self._publish_large(upto, stopping)
        done = Progress(upto, None, rows[-1].position if rows else 0)
        if rows:
            page = await self._pack(rows)
            await self._record_page(done, page, await self._send_all(page.packed))
        self._progress = done  # if nothing was sent, outbox.relay keeps the older cursor
        return bool(rows)

    async def _publish_large(self, upto: Snapshot, stopping: asyncio.Event) -> bool:
        """Publish a large cut page by page: one is read and packed while another is in flight."""
        cut = Cut(self._progress.cursor, upto, self._progress.position)
        flight = _Flight()
        async with aclosing(flight), aclosing(self._reader.read_pages(cut)) as pages:
            async for rows in pages:
                page = await self._pack(rows)
                if await self._finish_flight(flight, upto):
                    page = await self._pack(rows)  # it may hold keys that were parked just now
                if stopping.is_set():
                    return True
                flight.start(asyncio.create_task(self._send_all(page.packed)), page)
            await self._finish_flight(flight, upto)
        await self._record_progress(Progress(upto), SendResult())
        return True

    async def _finish_flight(self, flight: "_Flight", upto: Snapshot) -> bool:
        """Wait for the page in flight and record it; return whether it has parked a key."""
        if flight.task is None or flight.page is None:
            return False
        result = await flight.task
        flight.task = None
        done = Progress(self._progress.cursor, upto, flight.page.last_position)
        await self._record_page(done, flight.page, result)
        return bool(result.refused)

    async def _publish_released(self, stream: Stream) -> None:
        """Publish one page of what waited for this key; the rest follows after the next cut."""
        self._sender.routes.forget_refusals()
        rows = await self._parked.read_waiting(stream, self._settings.page_messages)
        result = await self._send_all(await self._sender.pack(map(self._renderer.render, rows)))
        left = {record.position for record in collect_unacknowledged(result)}
        async with self._connection.transaction():
            await self._record_progress(self._progress, result)
            await self._parked.park(result.refused.values())
            done = [row.position for row in rows if row.position not in left]
            flows = await self._parked.unpark(stream, done)
        if flows:
            self._parked.note_unparked(stream)
            log.info("key flows again", key=stream.key.decode(), messages=len(done))

    async def _pack(self, rows: Sequence[Row]) -> Page:
        failpoint(Failpoint.ROWS_READ)
        flowing, streams, positions = self._parked.split(rows)
        packed = await self._sender.pack(map(self._renderer.render, flowing))
        return Page(rows, packed, streams, positions)

    async def _send_all(self, packed: Packed) -> SendResult:
        await record_topics(self._connection, self._sender.routes.counts, self._topics)
        result = await self._sender.send_all(packed)
        failpoint(Failpoint.BATCHES_ACKNOWLEDGED)
        return result

    async def _record_page(self, progress: Progress, page: Page, result: SendResult) -> None:
        """Record the progress over a page, and in the same transaction park what was refused."""
        refused = collect_unacknowledged(result)
        if not refused and not page.positions:
            return await self._record_progress(progress, result)
        async with self._connection.transaction():
            await self._record_progress(progress, result)
            await self._parked.park(result.refused.values())
            await self._parked.add_waiting(map(read_stream, refused), [r.position for r in refused])
            await self._parked.add_waiting(page.streams, page.positions)
        self._parked.note_parked(result.refused)
        for stream, each in result.refused.items():
            log.error("key parked", key=stream.key.decode(), reason=each.reason)
        return None

    async def _record_progress(self, progress: Progress, result: SendResult) -> None:
        await advance(self._connection, self._lease, progress, result.deliveries)
        self._progress = progress
        if result.deliveries:
            self._size.grow()
            self._reader.resize(self._size.messages, self._size.bytes)


class _Flight:
    """The page in flight, if there is one. It is awaited or cancelled before the term ends."""

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
