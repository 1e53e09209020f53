"""Replayer: says published messages again, in the order of their positions, at a bounded rate.

At least once, in order per key: a batch is acknowledged before its checkpoint is written, and the
next one is sent after that. So a process that dies repeats a batch at most. Weaknesses: a record
gets the time at which it is sent, its own is in `ce_time`; where Kafka's retention has removed the
first ones, a reader of the topic sees a key's older versions behind newer ones.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex
from time import monotonic
from typing import Any

import psycopg
import structlog

from outbox.cursor.database_identity import require_original
from outbox.errors import Halted, OutboxError, translate_errors
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
from outbox.settings import Settings

log = structlog.get_logger()

NOBODYS_TERM = 0


def quiet(_: int) -> None:
    """Whom nobody has to tell."""


class Replayer:
    """Runs one replay to its end; outages of PostgreSQL and Kafka are waited out.

    `run` returns early after `stop()`, and where the replay is paused or cancelled. While another
    process is at the same replay it stands by. `tell` hears how many were sent, after each batch.
    """

    def __init__(
        self, settings: Settings, replay_id: int, on_progress: Callable[[int], None] = quiet
    ) -> None:
        self._settings = settings
        self._id = replay_id
        self._report = on_progress
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{token_hex(4)}"
        self._stopping = asyncio.Event()
        self._behind: str | None = None

    def stop(self) -> None:
        """Finish the batch in flight, keep its checkpoint and return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Until it is done, paused or cancelled, or this process is told to stop.

        Halted where it came here with a copy of its database: it may go on where it was asked for;
        and where PostgreSQL does not take this client: a person has started it, and is there.
        """
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                if await self._connect_and_replay():
                    return
                backoff.succeeded()
            except Halted:
                raise
            except (OutboxError, psycopg.Error) as error:
                if is_refused(error):
                    raise Halted(str(error)) from error
                if backoff.may_tell():
                    log.warning("replay interrupted", error=str(error), kind=type(error).__name__)
                await self._pause(backoff.failed())

    async def _connect_and_replay(self) -> bool:
        """Whether there is nothing left to do here."""
        with translate_errors():
            async with await connect_command(self._settings, "replay") as connection:
                await require_current(connection, outbox_migrations())
                await require_original(connection)
                replay = await find(connection, self._id)
                if replay.status != "running":
                    return True
                seconds = self._settings.lease_seconds
                turn = await take_lease(connection, self._id, self._owner, seconds)
                if turn is None:
                    await self._stand_by(replay)
                    return False
                await self._replay(connection, turn, await find(connection, self._id))
                return True

    async def _stand_by(self, replay: Replay) -> None:
        if replay.owner != self._behind:
            log.info("replay stands by", replay=self._id, owner=replay.owner)
            self._behind = replay.owner
        await self._pause(self._settings.lease_seconds / 10)

    async def _replay(
        self, connection: psycopg.AsyncConnection[Any], turn: ReplayLease, replay: Replay
    ) -> None:
        log.info("replaying", replay=replay.id, position=replay.position, owner=self._owner)
        counts = await read_topics(connection)
        source = ReplaySource(
            connection, replay.selection, replay.position, self._settings.page_bytes
        )
        rate = _Rate(replay.messages_per_second)
        limit = min(self._settings.page_messages, rate.a_second)
        async with Sender(self._settings, turn, counts, turn.renew) as carrier:
            sender = _Sender(carrier, turn, replay, self._report)
            while turn.status == "running" and not self._stopping.is_set():
                page = await source.page(limit)
                failpoint(Failpoint.REPLAY_READ)
                if page is None:
                    await turn.finish()
                    break
                await sender.send(page)
                await self._rest(turn, rate.after(len(page.rows)))
        await turn.release()
        log.info("replay stopped", replay=replay.id, status=turn.status)

    async def _rest(self, turn: ReplayLease, seconds: float) -> None:
        """Keep to the rate; a replay that is paused meanwhile is noticed at the next renewal."""
        until = monotonic() + seconds
        while turn.status == "running" and not self._stopping.is_set():
            left = until - monotonic()
            if left <= 0:
                return
            await self._pause(min(left, self._settings.lease_seconds / 8))
            await turn.renew()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


class _Sender:
    """Takes pages to Kafka and keeps the checkpoint."""

    def __init__(
        self, carrier: Sender, turn: ReplayLease, replay: Replay, on_progress: Callable[[int], None]
    ) -> None:
        self._carrier = carrier
        self._turn = turn
        self._report = on_progress
        self._sent = replay.sent
        self._renderer = Renderer(NOBODYS_TERM, replay_headers(replay))

    async def send(self, page: ReplayPage) -> None:
        """Durable in Kafka, then in the row; a page without rows only moves the checkpoint."""
        sent = refused = 0
        if page.rows:
            carried = await self._send_all(page)
            sent = sum(delivery.messages for delivery in carried.deliveries)
            refused = len(page.rows) - sent
        await self._turn.checkpoint(page.position, sent, refused)
        failpoint(Failpoint.REPLAY_KEPT)
        self._sent += sent
        self._report(self._sent)

    async def _send_all(self, page: ReplayPage) -> SendResult:
        packed = await self._carrier.pack(map(self._renderer.render, page.rows))
        carried = await while_waiting(Failpoint.REPLAY_SENT, self._carrier.send_all(packed))
        failpoint(Failpoint.REPLAY_ACKNOWLEDGED)
        for stream, refusal in carried.refused.items():
            log.error("replay refused", key=stream.key.decode(), reason=refusal.reason)
        return carried


def replay_headers(replay: Replay) -> list[tuple[str, bytes]]:
    """What tells a replay's records from the relay's, beside their term."""
    named = [("replay", str(replay.id).encode())]
    if replay.consumer is not None:
        named.append(("replayfor", replay.consumer.encode()))
    return named


class _Rate:
    """When the next batch may go: what was sent, over the rate, since the first one."""

    def __init__(self, messages_per_second: float, clock: Callable[[], float] = monotonic) -> None:
        self.a_second = max(1, int(messages_per_second))
        self._rate = messages_per_second
        self._clock = clock
        self._due = clock()

    def after(self, messages: int) -> float:
        """Seconds to wait; what an outage took is not made up for."""
        self._due = max(self._due, self._clock() - 1.0) + messages / self._rate
        return max(0.0, self._due - self._clock())
