"""Readers: the relay's own reading side, over a topic in memory, and planted ones beside it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Self

import psycopg
import pytest
from pydantic import SecretStr

from outbox.cursor.cut import Cut, CutReader, Row
from outbox.cursor.lease import take_lease
from outbox.kafka import Batch, Delivery, Packed, Publisher, Record, SendOutcome
from outbox.kafka.batch import RecordBatch
from outbox.postgres.connection import connect
from outbox.relay import sender
from outbox.relay.renderer import Renderer
from outbox.relay.term import Term
from outbox.settings import Settings
from schemas.envelope import Envelope
from schemas.wire import decode
from tests.kit.planted.planted_readers import PlantedReader
from tests.kit.records import headers_of

HOUR = 3_600.0


class Topic:
    """A topic of one partition, in memory; each batch sets `written`."""

    def __init__(self) -> None:
        self.written = asyncio.Event()
        self._count = 0
        self._new: list[Envelope] = []

    def append(self, records: Sequence[Record]) -> Delivery:
        first, self._count = self._count, self._count + len(records)
        self._new += envelopes(records)
        self.written.set()
        ends = records[0].position, records[-1].position
        return Delivery(records[0].topic, 0, first, len(records), *ends)

    def take(self) -> list[Envelope]:
        """Return what is new since the last call."""
        new, self._new = self._new, []
        return new


def envelopes(records: Iterable[Record]) -> list[Envelope]:
    """Return the records as a reader of the topic sees them."""
    return [decode(record.key, record.value, headers_of(record)) for record in records]


class ListPublisher(Publisher):
    """A Publisher that writes to a Topic, and acknowledges every batch at once."""

    def __init__(self, topic: Topic, *settings: Any) -> None:
        super().__init__(*settings)
        self._topic = topic

    async def __aenter__(self) -> Self:
        return self

    async def prepare(self, records: Iterable[Record]) -> Packed:
        records = list(records)
        return Packed([Batch("", 0, RecordBatch(0), records)] if records else [], [])

    async def publish(self, batches: Sequence[Batch], within_seconds: float) -> SendOutcome:  # noqa: ARG002 - the port's
        return SendOutcome([self._topic.append(batch.records) for batch in batches])


class TermReader:
    """The real term, cut reader, sender and renderer.

    With pages of one message, every cut is a large one: `poll` publishes one page and then stops,
    and `drain` goes on within that cut, when writers have long written more.
    """

    def __init__(self, term: Term, topic: Topic) -> None:
        self._term = term
        self._topic = topic
        self._never = asyncio.Event()
        self._paused = asyncio.Event()
        self._goes_on = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def over(cls, url: str, page_messages: int = 2_000) -> AsyncIterator[Self]:
        settings = Settings(
            postgres_url=SecretStr(url), page_messages=page_messages, lease_seconds=HOUR
        )
        topic = Topic()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sender, "Publisher", partial(ListPublisher, topic))
            async with await connect(settings) as connection:
                lease = await take_lease(connection, "interleavings", HOUR)
                assert lease is not None
                async with Term(settings, connection, lease) as term:
                    yield cls(term, topic)

    async def poll(self) -> list[Envelope]:
        self._topic.written.clear()
        await self._term.publish_next_cut(self._topic.written)
        return self._topic.take()

    async def drain(self) -> list[Envelope]:
        while await self._term.publish_next_cut(self._never):
            pass
        return self._topic.take()


class PausedReader(TermReader):
    """A TermReader that stands still between its snapshot and its reading, until `drain`."""

    async def poll(self) -> list[Envelope]:
        """Return once it stands still, or once the snapshot shows nothing new."""
        self._goes_on.clear()
        self._paused.clear()
        self._cut = asyncio.create_task(self._term.publish_next_cut(self._never))
        paused = asyncio.create_task(self._paused.wait())
        await asyncio.wait([self._cut, paused], return_when=asyncio.FIRST_COMPLETED)
        paused.cancel()
        return self._topic.take()

    async def drain(self) -> list[Envelope]:
        self._goes_on.set()
        await self._cut
        return await super().drain()

    @classmethod
    @asynccontextmanager
    async def over(cls, url: str, page_messages: int = 2_000) -> AsyncIterator[Self]:
        small = CutReader.read_small_cut
        async with super().over(url, page_messages) as reader:

            async def after_a_pause(cuts: CutReader, cut: Cut) -> list[Row] | None:
                reader._paused.set()
                await reader._goes_on.wait()
                return await small(cuts, cut)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(CutReader, "read_small_cut", after_a_pause)
                yield reader


class PlantedSide:
    """A planted reader; its rows are rendered in the way of the relay."""

    def __init__(self, connection: psycopg.AsyncConnection, reader: PlantedReader) -> None:
        self._connection = connection
        self._reader = reader
        self._renderer = Renderer(term=1)

    @classmethod
    @asynccontextmanager
    async def over(cls, url: str, reader: PlantedReader) -> AsyncIterator[Self]:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await CutReader(connection, 1, 1).prepare()
            yield cls(connection, reader)

    async def poll(self) -> list[Envelope]:
        return self._render(await self._reader.read(self._connection))

    async def drain(self) -> list[Envelope]:
        drained: list[Row] = []
        while rows := await self._reader.read(self._connection):
            drained += rows
        return self._render(drained)

    def _render(self, rows: Iterable[Row]) -> list[Envelope]:
        return envelopes(map(self._renderer.render, rows))
