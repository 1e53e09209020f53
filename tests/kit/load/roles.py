"""Roles in the test's own process, and what tests send to them and get from them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol

from consumers.commands import CommandReaction
from consumers.projections.projection import Projection, ProjectionReaction
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.kafka import Publisher, Record, Subscriber
from outbox.relay.relay import Relay
from outbox.write.database import Database
from schemas.envelope import Envelope
from schemas.wire import decode
from services.assembly import catalog, qdrant
from services.catalog.embedder import WordLlamaEmbedder
from services.catalog.routes import Api
from stack.demo.upstream import REPLIES, record_of

COMMANDS = "catalog.commands"


class Runs(Protocol):
    async def run(self) -> None: ...

    def stop(self) -> None: ...


@asynccontextmanager
async def running(*roles: Runs) -> AsyncIterator[None]:
    """Run roles for the length of the block; a role that fails fails the block."""
    async with asyncio.TaskGroup() as group:
        for role in roles:
            group.create_task(role.run())
        try:
            yield
        finally:
            for role in roles:
                role.stop()


@asynccontextmanager
async def catalog_api(settings: Settings) -> AsyncIterator[Api]:
    """Yield the catalog service over the test's database."""
    async with Database(settings, "catalog") as database:
        yield catalog(database, lambda: qdrant(settings), WordLlamaEmbedder())


@asynccontextmanager
async def command_side(settings: Settings) -> AsyncIterator[Api]:
    """Run the relay and the command consumer for the length of the block."""
    async with catalog_api(settings) as api:
        commands = Runner(settings, CommandReaction("catalog", api.dispatcher))
        async with running(Relay(settings), commands):
            yield api


def projecting(settings: Settings, projection: Projection) -> Runner:
    return Runner(settings, ProjectionReaction(projection))


async def send(settings: Settings, envelopes: Iterable[Envelope]) -> None:
    await send_records(settings, [record_of(envelope, COMMANDS) for envelope in envelopes])


async def send_records(settings: Settings, records: Iterable[Record]) -> None:
    async with Publisher(settings.kafka_url, 30.0) as publisher:
        await publisher.send(records)


class Collector:
    """Every envelope of some topics, in the order of arrival."""

    def __init__(self, settings: Settings, *topics: str) -> None:
        self.envelopes: list[Envelope] = []
        self._settings = settings
        self._topics = topics or (REPLIES,)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        subscriber = Subscriber(self._settings.kafka_url, "collector", self._topics, 6_000, 1 << 22)
        async with subscriber:
            while not self._stopping.is_set():
                for records in (await subscriber.receive(1_000, 50)).values():
                    self.envelopes += [decode(r.key, r.value, r.headers) for r in records]

    async def collected(self, count: int, within_seconds: float = 30.0) -> list[Envelope]:
        """Return at least `count` envelopes; TimeoutError where they do not come."""
        async with asyncio.timeout(within_seconds):
            while len(self.envelopes) < count:  # noqa: ASYNC110 - what waits is in `run`
                await asyncio.sleep(0.02)
        return self.envelopes


def again(envelope: Envelope, times: int) -> list[Envelope]:
    return [replace(envelope) for _ in range(times)]
