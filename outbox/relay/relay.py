"""Relay: publishes one cut after another, from PostgreSQL to Kafka.

It publishes at least once, in order per key. Progress is recorded after the broker's
acknowledgement, in a statement that also proves the term. So a crash or a lost lease can repeat
what was sent since the last acknowledged page, and nothing else. Weaknesses: one relay publishes
for a whole database, and while a page is unacknowledged, nothing else is sent.
"""

import asyncio
from contextlib import suppress
from typing import Any

import psycopg
import structlog

from outbox.cursor.database_identity import require_same_identity
from outbox.cursor.lease import Lease, take_lease
from outbox.errors import DependencyDown, OutboxError, translate_errors
from outbox.postgres.connection import connect
from outbox.postgres.deadline import Deadline
from outbox.postgres.migrate import outbox_migrations, require_current
from outbox.postgres.pooler import require_direct
from outbox.relay.page_size import PageSize
from outbox.relay.term import Term
from outbox.retention.pruner import Pruner
from outbox.runtime.backoff import Backoff
from outbox.runtime.failpoints import Failpoint, failpoint
from outbox.runtime.owner import build_owner_id
from outbox.runtime.poll_interval import PollInterval
from outbox.settings import Settings

log = structlog.get_logger()

# A lease must survive a crash of this server, so that no term is given twice. It need not wait for
# a standby: a promoted standby has another history, where a relay halts. And it must not wait:
# while a synchronous standby is away, messages that were committed before would not be published
# either.
LOCALLY = "SET synchronous_commit = local"


class Relay:
    """Publishes committed messages while it holds the lease, and stands by otherwise.

    `run` returns after `stop()`, within a few seconds even when the broker does not answer.
    """

    def __init__(self, settings: Settings, owner: str | None = None) -> None:
        self._settings = settings
        self._owner = owner or build_owner_id()
        self._stopping = asyncio.Event()
        self._size = PageSize(settings)

    def stop(self) -> None:
        """Finish the page in flight, release the lease and return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Lead or stand by until `stop()`; failures of PostgreSQL and Kafka are waited out."""
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                await self._connect_and_lead()
                backoff.succeeded()
            except (OutboxError, psycopg.Error) as error:  # no answer of a database ends a relay
                if backoff.may_log():
                    log.warning("relay interrupted", error=str(error), kind=type(error).__name__)
                if isinstance(error, DependencyDown) and error.dependency == "kafka":
                    self._size.shrink()
                await self._pause(backoff.failed())

    async def _connect_and_lead(self) -> None:
        with translate_errors():
            async with await connect(self._settings) as connection:
                async with Deadline(self._settings.read_timeout_seconds):
                    lease = await self._take_lease(connection)
                if lease is None:
                    await self._pause(self._settings.lease_seconds / 10)
                else:
                    await self._lead(connection, lease)

    async def _take_lease(self, connection: psycopg.AsyncConnection[Any]) -> Lease | None:
        """Take the lease; None while another relay holds it.

        It raises an error where a relay must not publish: behind a pooler, with migrations missing,
        or where the database's identity has changed.
        """
        await require_direct(connection)
        await connection.execute(LOCALLY)
        await require_current(connection, outbox_migrations())
        await require_same_identity(connection)
        return await take_lease(connection, self._owner, self._settings.lease_seconds)

    async def _lead(self, connection: psycopg.AsyncConnection[Any], lease: Lease) -> None:
        log.info("relay leads", term=lease.term, owner=lease.owner)
        failpoint(Failpoint.LEASE_TAKEN)
        pace = PollInterval(self._settings.poll_at_rest_milliseconds / 1000)
        term = Term(self._settings, connection, lease, self._size)
        async with term, Pruner(self._settings, connect):
            while not self._stopping.is_set():
                work = await term.publish_next_cut(self._stopping)
                await asyncio.sleep(pace.after(work=work))
            failpoint(Failpoint.DRAINING)
        await lease.release(connection)
        log.info("relay stopped", term=lease.term)

    async def _pause(self, seconds: float) -> None:
        if seconds == 0:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
