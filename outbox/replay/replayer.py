"""Replayer: publishes messages once more, in the order of their positions, at a bounded rate.

Delivery is at least once and in order per key: Kafka acknowledges a batch, then its checkpoint is
written, and only then the next batch is sent. So a process that dies repeats one batch at most.
Weaknesses: a record's timestamp is the time at which it is sent (the message's own time is in
`ce_time`); and where Kafka's retention has removed a key's first records, a reader of the topic
sees older versions of the key behind newer ones.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import psycopg
import structlog

from outbox.cursor.database_identity import require_original
from outbox.errors import Halted, InvalidInput, OutboxError, SchemaBehind, translate_errors
from outbox.postgres.connection import connect_command, is_refused
from outbox.postgres.migrate import outbox_migrations, require_current
from outbox.relay.partition_counts import read_topics
from outbox.relay.renderer import Renderer
from outbox.relay.sender import Sender, SendResult
from outbox.replay.lease import ReplayLease, take_lease
from outbox.replay.requests import Replay, find
from outbox.replay.source import ReplayPage, ReplaySource
from outbox.runtime.backoff import Backoff
from outbox.runtime.failpoints import Failpoint, failpoint, while_waiting
from outbox.runtime.owner import build_owner_id
from outbox.runtime.rate_limit import RateLimit
from outbox.settings import Settings

log = structlog.get_logger()

SAVED_SECONDS = 1.0  # a page may take so long without slowing the replay; no outage is made up for
REPLAY_TERM = 0  # in the headers of replayed records, which belong to no relay's term


class Replayer:
    """Runs one replay to its end, and waits while PostgreSQL or Kafka is down.

    `run` returns early after `stop()`, and when the replay is paused or cancelled. While another
    process runs the same replay, this one stands by. `on_progress` gets the number of messages sent
    so far, after each batch.
    """

    def __init__(
        self,
        settings: Settings,
        replay_id: int,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._id = replay_id
        self._on_progress = on_progress
        self._owner = build_owner_id()
        self._stopping = asyncio.Event()
        self._standing_by_for: str | None = None

    def stop(self) -> None:
        """Let `run` finish the batch in flight, write its checkpoint and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Replay until all is done, the replay is paused or cancelled, or `stop()` is called.

        Raises Halted where this database is a copy (the replay may be going on in the original),
        and where PostgreSQL refuses this client (the operator who started it can repair that);
        InvalidInput where there is no such replay, and SchemaBehind where migrations are missing.
        Every other failure of PostgreSQL or Kafka is logged and tried again.
        """
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                if await self._connect_and_replay():
                    return
                backoff.succeeded()
            except (Halted, InvalidInput, SchemaBehind):
                raise
            except (OutboxError, psycopg.Error) as error:
                if is_refused(error):
                    raise Halted(str(error)) from error
                if backoff.may_log():
                    log.warning("replay interrupted", error=str(error), kind=type(error).__name__)
                await self._pause(backoff.failed())

    async def _connect_and_replay(self) -> bool:
        """Return whether there is nothing left to do for this process."""
        with translate_errors():
            async with await connect_command(self._settings, "replay") as connection:
                await require_current(connection, outbox_migrations())
                await require_original(connection)
                replay = await find(connection, self._id)
                if replay.status != "running":
                    return True
                seconds = self._settings.lease_seconds
                lease = await take_lease(connection, self._id, self._owner, seconds)
                if lease is None:
                    await self._stand_by(replay)
                    return False
                await self._replay(connection, lease, await find(connection, self._id))
                return True

    async def _stand_by(self, replay: Replay) -> None:
        """Wait a moment; log once for each process that we stand by for."""
        if replay.owner != self._standing_by_for:
            log.info("replay stands by", replay=self._id, owner=replay.owner)
            self._standing_by_for = replay.owner
        await self._pause(self._settings.lease_seconds / 10)

    async def _replay(
        self, connection: psycopg.AsyncConnection[Any], lease: ReplayLease, replay: Replay
    ) -> None:
        """Send page after page while we hold the lease and the replay is `running`."""
        log.info("replaying", replay=replay.id, position=replay.position, owner=self._owner)
        counts = await read_topics(connection)
        source = ReplaySource(
            connection, replay.selection, replay.position, self._settings.page_bytes
        )
        rate = RateLimit(replay.messages_per_second, saved_seconds=SAVED_SECONDS)
        limit = min(self._settings.page_messages, max(1, int(replay.messages_per_second)))
        async with Sender(self._settings, lease, counts, lease.renew) as sender:
            pages = _PageSender(sender, lease, replay, self._on_progress)
            while lease.status == "running" and not self._stopping.is_set():
                page = await source.read_page(limit)
                failpoint(Failpoint.REPLAY_READ)
                if page is None:
                    await lease.finish()
                    break
                await pages.send(page)
                await self._rest(lease, rate.delay_after(len(page.rows)))
        await lease.release()
        log.info("replay stopped", replay=replay.id, status=lease.status)

    async def _rest(self, lease: ReplayLease, seconds: float) -> None:
        """Wait so long and renew the lease meanwhile, which also shows a pause of the replay."""
        until = monotonic() + seconds
        while lease.status == "running" and not self._stopping.is_set():
            left = until - monotonic()
            if left <= 0:
                return
            await self._pause(min(left, self._settings.lease_seconds / 8))
            await lease.renew()

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until `stop()` is called."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


class _PageSender:
    """Sends pages to Kafka and writes the checkpoint behind each of them."""

    def __init__(
        self,
        sender: Sender,
        lease: ReplayLease,
        replay: Replay,
        on_progress: Callable[[int], None],
    ) -> None:
        self._sender = sender
        self._lease = lease
        self._on_progress = on_progress
        self._sent = replay.sent
        self._renderer = Renderer(REPLAY_TERM, build_replay_headers(replay))

    async def send(self, page: ReplayPage) -> None:
        """Have Kafka acknowledge the page, then move the checkpoint behind it.

        A page without rows only moves the checkpoint.
        """
        sent = refused = 0
        if page.rows:
            result = await self._send_rows(page)
            sent = sum(delivery.messages for delivery in result.deliveries)
            refused = len(page.rows) - sent
        await self._lease.checkpoint(page.position, sent, refused)
        failpoint(Failpoint.REPLAY_KEPT)
        self._sent += sent
        self._on_progress(self._sent)

    async def _send_rows(self, page: ReplayPage) -> SendResult:
        packed = await self._sender.pack(map(self._renderer.render, page.rows))
        result = await while_waiting(Failpoint.REPLAY_SENT, self._sender.send_all(packed))
        failpoint(Failpoint.REPLAY_ACKNOWLEDGED)
        for stream, refusal in result.refused.items():
            log.error("replay refused", key=stream.key.decode(), reason=refusal.reason)
        return result


def build_replay_headers(replay: Replay) -> list[tuple[str, bytes]]:
    """Return the headers that mark a record as replayed, and for which consumer it is meant."""
    named = [("replay", str(replay.id).encode())]
    if replay.consumer is not None:
        named.append(("replayfor", replay.consumer.encode()))
    return named
