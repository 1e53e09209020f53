"""Bugs planted into the real relay, in this process, to prove that the harness sees them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import ClassVar, Self

import pytest
from aiokafka import AIOKafkaProducer

from outbox.cursor.cut import Cut, CutReader, Row, Snapshot
from outbox.cursor.lease import Lease
from outbox.cursor.progress import Progress, advance
from outbox.kafka import Publisher
from outbox.kafka.errors import abandon_producer
from outbox.postgres.pipeline import COMMIT, Request, Rows, execute_at_once
from outbox.relay import relay, sender
from outbox.relay.term import Term
from outbox.write import database, publishing
from outbox.write.unit_of_work import UnitOfWork, driver_connection
from tests.kit.planted.plant import plant


def no_lease_check() -> AbstractContextManager[None]:
    """M10: for the length of the block, every relay believes that its term is endless."""
    return plant(Lease, "remaining", lambda lease: lease.seconds)


class ReusedPublisher(Publisher):
    """M09: it goes on with one producer, whatever has happened to it."""

    kept: ClassVar[AIOKafkaProducer | None] = None

    async def __aenter__(self) -> Self:
        if ReusedPublisher.kept is None:
            await super().__aenter__()
            ReusedPublisher.kept = self._producer
        self._producer = ReusedPublisher.kept
        return self

    async def __aexit__(self, *_: object) -> None:
        """Keep the producer open, which is the bug."""


@asynccontextmanager
async def reused_producer() -> AsyncIterator[None]:
    """Plant M09 for the length of the block."""
    with plant(sender, "Publisher", ReusedPublisher):
        yield
    if ReusedPublisher.kept is not None:
        await abandon_producer(ReusedPublisher.kept)
        ReusedPublisher.kept = None


def ordered_by_creation() -> AbstractContextManager[None]:
    """M21: a cut is published in the order in which its transactions began."""
    small = CutReader.read_small_cut

    async def by_creation(reader: CutReader, cut: Cut) -> list[Row] | None:
        rows = await small(reader, cut)
        return rows and sorted(rows, key=lambda row: row.time)

    return plant(CutReader, "read_small_cut", by_creation)


# By statement: the text that draws the position again once the head is locked, and a text that
# keeps the early position.
DRAWS = {
    "PUBLISH_ONE": ("position = nextval('outbox.positions'),", "position = EXCLUDED.position,"),
    "PUBLISH_SEVERAL": (
        "position = nextval('outbox.positions') + EXCLUDED.version - 1,",
        "position = EXCLUDED.position,",
    ),
}


@contextmanager
def drawn_before_the_lock() -> Iterator[None]:
    """M16: a message keeps the position that was drawn before it waited for its head."""
    with pytest.MonkeyPatch.context() as patch:
        for name, (right, wrong) in DRAWS.items():
            statement = getattr(publishing, name)
            assert right.encode() in statement.sql
            early = statement.sql.replace(right.encode(), wrong.encode())
            patch.setattr(publishing, name, replace(statement, sql=early))
        yield


class MarkingTerm(Term):
    """M08: it records a cut as published, and then publishes it."""

    async def _publish_upto(self, upto: Snapshot, stopping: asyncio.Event) -> bool:
        await advance(self._connection, self._lease, Progress(upto), [])
        return await super()._publish_upto(upto, stopping)


def marked_before_acknowledged() -> AbstractContextManager[None]:
    """Plant M08 for the length of the block."""
    return plant(relay, "Term", MarkingTerm)


class SilentUnit(UnitOfWork):
    """M11: it commits the rows, and publishes their events in a second transaction."""

    async def _write_and_commit(self, requests: list[Request]) -> Rows:
        await execute_at_once(await driver_connection(self.connection), [COMMIT])
        return await super()._write_and_commit(requests)


def two_transactions() -> AbstractContextManager[None]:
    """Plant M11 for the length of the block."""
    return plant(database, "UnitOfWork", SilentUnit)
