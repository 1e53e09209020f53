"""Bugs planted into the real relay, in this process, to prove that the harness sees them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import ClassVar, Self

import pytest
from aiokafka import AIOKafkaProducer

from outbox import carrier
from outbox.cut import Cut, CutReader, Row
from outbox.kafka import Publisher
from outbox.kafka.edge import abandon
from outbox.lease import Lease


@contextmanager
def no_lease_check() -> Iterator[None]:
    """M10: for the length of the block every relay takes its term for endless."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lease, "remaining", lambda lease: lease.seconds)
        yield


class ReusedPublisher(Publisher):
    """M09: goes on with one producer, whatever has happened to it."""

    kept: ClassVar[AIOKafkaProducer | None] = None

    async def __aenter__(self) -> Self:
        if ReusedPublisher.kept is None:
            await super().__aenter__()
            ReusedPublisher.kept = self._producer
        self._producer = ReusedPublisher.kept
        return self

    async def __aexit__(self, *_: object) -> None:
        """The bug."""


@asynccontextmanager
async def reused_producer() -> AsyncIterator[None]:
    """M09, for the length of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(carrier, "Publisher", ReusedPublisher)
        yield
    if ReusedPublisher.kept is not None:
        await abandon(ReusedPublisher.kept)
        ReusedPublisher.kept = None


@contextmanager
def ordered_by_creation() -> Iterator[None]:
    """M21: a cut is published in the order in which its transactions began."""
    small = CutReader.small

    async def by_creation(reader: CutReader, cut: Cut) -> list[Row] | None:
        rows = await small(reader, cut)
        return rows and sorted(rows, key=lambda row: row.time)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CutReader, "small", by_creation)
        yield
