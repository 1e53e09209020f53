"""Relay: one cut after another, from PostgreSQL to Kafka.

At least once, in order per key. Progress is recorded after the broker's acknowledgement, in the
statement that also proves the term, so a crash or a lost lease can repeat what was sent since the
last acknowledged page, and nothing else. Weaknesses: one relay publishes for a whole database, and
while a page is unacknowledged, nothing else is sent.
"""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import aclosing, suppress
from secrets import token_hex
from time import monotonic
from typing import Any

import psycopg
import structlog

from outbox.cut import Cut, CutReader, Row, Snapshot
from outbox.errors import DependencyDown, LeaseLost, OutboxError, translated
from outbox.failpoints import Failpoint, failpoint, while_waiting
from outbox.kafka import Batch, Delivery, Publisher
from outbox.lease import Lease, Progress, take
from outbox.migrate import outbox_migrations, require_current
from outbox.pace import Pace
from outbox.partitions import Partitions
from outbox.record import Renderer
from outbox.settings import Settings

log = structlog.get_logger()

# Guarded by the term: a relay that was replaced moves nothing. The delivery rows are inserted only
# where the progress moved. expires_at rides along, so a busy relay never renews separately.
ADVANCE = """
WITH moved AS (
    UPDATE outbox.relay
    SET cursor = %(cursor)s::pg_snapshot, upto = %(upto)s::pg_snapshot, position = %(position)s,
        published = published + %(messages)s,
        expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
    WHERE name = 'main' AND term = %(term)s
    RETURNING term
), delivered AS (
    INSERT INTO outbox.deliveries
        (term, topic, partition, first_offset, last_offset, first_position, last_position, messages)
    SELECT moved.term, batch.*
    FROM moved, unnest(%(topics)s::text[], %(partitions)s::integer[], %(first_offsets)s::bigint[],
                       %(last_offsets)s::bigint[], %(first_positions)s::bigint[],
                       %(last_positions)s::bigint[], %(counts)s::integer[]) AS batch
)
SELECT term FROM moved
"""

# Losing the last progress in a crash of PostgreSQL repeats messages, as any crash may; waiting for
# the disk once a page would buy nothing.
SESSION = "SET synchronous_commit = off"

BACKOFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Relay:
    """Publishes committed messages while it holds the lease; stands by otherwise.

    `run` returns after `stop()`, and within a few seconds even when the broker is deaf.
    """

    def __init__(self, settings: Settings, owner: str | None = None) -> None:
        self._settings = settings
        self._owner = owner or f"{socket.gethostname()}:{os.getpid()}:{token_hex(4)}"
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Finish the page in flight, release the lease and return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Lead or stand by until stopped; failures of PostgreSQL and Kafka are waited out."""
        failures = 0
        while not self._stopping.is_set():
            try:
                await self._connect_and_lead()
                failures = 0
            except OutboxError as error:
                log.warning("relay interrupted", error=str(error), kind=type(error).__name__)
                await self._pause(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1

    async def _connect_and_lead(self) -> None:
        with translated():
            async with await connect(self._settings) as connection:
                await require_current(connection, outbox_migrations())
                taken = await take(connection, self._owner, self._settings.lease_seconds)
                if taken is None:
                    await self._pause(self._settings.lease_seconds / 10)
                else:
                    await self._lead(connection, *taken)

    async def _lead(
        self, connection: psycopg.AsyncConnection[Any], lease: Lease, progress: Progress
    ) -> None:
        log.info("relay leads", term=lease.term, owner=lease.owner)
        failpoint(Failpoint.LEASE_TAKEN)
        async with Publisher(
            self._settings.kafka_url, self._settings.publish_timeout_seconds
        ) as publisher:
            term = Term(self._settings, connection, publisher, lease, progress)
            await term.prepare()
            pace = Pace(self._settings.poll_at_rest_milliseconds / 1000)
            while not self._stopping.is_set():
                work = await term.publish_next_cut(self._stopping)
                await self._pause(pace.after(work=work))
        failpoint(Failpoint.DRAINING)
        await lease.release(connection)
        log.info("relay stopped", term=lease.term)

    async def _pause(self, seconds: float) -> None:
        if seconds == 0:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


class Term:
    """One term of leadership over one connection and one publisher; ends with any error."""

    def __init__(
        self,
        settings: Settings,
        connection: psycopg.AsyncConnection[Any],
        publisher: Publisher,
        lease: Lease,
        progress: Progress,
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self._lease = lease
        self._progress = progress
        self._reader = CutReader(connection, settings.page_messages, settings.page_bytes)
        self._renderer = Renderer(lease.term)
        self._partitions = Partitions(settings)

    async def prepare(self) -> None:
        await self._connection.execute(SESSION)
        await self._reader.prepare()

    async def publish_next_cut(self, stopping: asyncio.Event) -> bool:
        """Publish what is new; False when there was nothing. Stops early between pages."""
        await self._lease.keep(self._connection)
        await self._partitions.keep(self._connection)
        if self._progress.upto is not None:
            return await self._publish_large(self._progress.upto, stopping)
        upto = await self._reader.snapshot()
        if upto.same(self._progress.cursor):
            return False
        return await self._publish_upto(upto, stopping)

    async def _publish_upto(self, upto: Snapshot, stopping: asyncio.Event) -> bool:
        cut = Cut(self._progress.cursor, upto)
        rows = await self._reader.small(cut)
        if rows is None:
            first = (await self._reader.measure(cut)).first_position or 1
            await self._advance(Progress(cut.cursor, upto, first - 1), [])
            return await self._publish_large(upto, stopping)
        done = Progress(upto)
        if rows:
            await self._advance(done, await self._send(await self._pack(rows)))
        self._progress = done  # where nothing was sent, the row keeps the older cursor
        return bool(rows)

    async def _publish_large(self, upto: Snapshot, stopping: asyncio.Event) -> bool:
        """Page by page: the next one is read and packed while the last one is in flight."""
        cut = Cut(self._progress.cursor, upto, self._progress.position)
        flight = _Flight()
        async with aclosing(flight), aclosing(self._reader.pages(cut)) as pages:
            async for rows in pages:
                batches = await self._pack(rows)
                await self._land(flight, upto)
                if stopping.is_set():
                    return True
                flight.start(asyncio.create_task(self._send(batches)), rows[-1].position)
            await self._land(flight, upto)
        await self._advance(Progress(upto), [])
        return True

    async def _land(self, flight: "_Flight", upto: Snapshot) -> None:
        if flight.task is None:
            return
        deliveries = await flight.task
        flight.task = None
        await self._advance(Progress(self._progress.cursor, upto, flight.position), deliveries)

    async def _pack(self, rows: Sequence[Row]) -> list[Batch]:
        failpoint(Failpoint.ROWS_READ)
        return await self._publisher.prepare(map(self._renderer.record, rows))

    async def _send(self, batches: Sequence[Batch]) -> list[Delivery]:
        failpoint(Failpoint.BATCHES_PACKED)
        self._lease.require()
        publishing = self._publisher.publish(batches, self._lease.remaining())
        deliveries = await while_waiting(Failpoint.BATCHES_SENT, publishing)
        failpoint(Failpoint.BATCHES_ACKNOWLEDGED)
        return deliveries

    async def _advance(self, progress: Progress, deliveries: Sequence[Delivery]) -> None:
        since = monotonic()
        parameters = self._advance_parameters(progress, deliveries)
        advancing = self._connection.execute(ADVANCE, parameters, prepare=True)
        rows = await while_waiting(Failpoint.PROGRESS_SENT, advancing)
        if await rows.fetchone() is None:
            raise LeaseLost(f"term {self._lease.term} has ended")
        failpoint(Failpoint.PROGRESS_KEPT)
        self._lease.extended(since)
        self._progress = progress

    def _advance_parameters(
        self, progress: Progress, deliveries: Sequence[Delivery]
    ) -> dict[str, Any]:
        return {
            "cursor": progress.cursor.text,
            "upto": progress.upto.text if progress.upto else None,
            "position": progress.position,
            "messages": sum(d.messages for d in deliveries),
            "seconds": self._lease.seconds,
            "term": self._lease.term,
            "topics": [d.topic for d in deliveries],
            "partitions": [d.partition for d in deliveries],
            "first_offsets": [d.first_offset for d in deliveries],
            "last_offsets": [d.last_offset for d in deliveries],
            "first_positions": [d.first_position for d in deliveries],
            "last_positions": [d.last_position for d in deliveries],
            "counts": [d.messages for d in deliveries],
        }


class _Flight:
    """The page in flight, if one is; awaited or cancelled before the term ends."""

    def __init__(self) -> None:
        self.task: asyncio.Task[list[Delivery]] | None = None
        self.position = 0

    def start(self, task: asyncio.Task[list[Delivery]], position: int) -> None:
        self.task, self.position = task, position

    async def aclose(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError, DependencyDown, LeaseLost):
                await self.task


async def connect(settings: Settings) -> psycopg.AsyncConnection[Any]:
    """A connection in autocommit: each statement has its own snapshot, and none is kept open."""
    return await psycopg.AsyncConnection.connect(
        settings.libpq_url(),
        autocommit=True,
        connect_timeout=settings.connect_timeout_seconds,
        application_name="aftercommit relay",
    )
