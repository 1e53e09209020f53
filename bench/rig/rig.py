"""Rig: one PostgreSQL for all questions, with a new database and a new broker for each."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from pydantic import SecretStr

from bench.rig.effort import Effort
from bench.rig.graphs import Graphs
from outbox.kafka import create_topics
from outbox.postgres.migrate import migrate, outbox_migrations
from outbox.settings import Settings
from stack.errors import StackError
from stack.part import Part
from stack.process.folder import run_folder
from stack.servers.broker import broker
from stack.servers.kafka import KafkaServer
from stack.servers.postgres import postgres
from stack.settings import StackSettings

MOCK = StackSettings(kafka_url=None, kafka_provider="mock")
REAL = StackSettings(kafka_url=None, kafka_provider="maven", kafka_quick_start=False)
TOPIC = "bench.sample.events"
PARTITIONS = 4  # as many as the mock broker gives a topic


@dataclass(frozen=True, slots=True)
class Rig:
    """Servers for one question; `why_no_kafka` says why a real broker cannot run here."""

    effort: Effort
    folder: Path
    postgres: Part
    graphs: Graphs
    settings: Settings
    kafka: Part | None
    why_no_kafka: str = ""


@asynccontextmanager
async def rigs(effort: Effort) -> AsyncIterator[Rig]:
    """Run PostgreSQL for the length of the block, durable as in production; without a database."""
    with run_folder(None, keep=False) as folder:
        async with AsyncExitStack() as stack, postgres(folder, MOCK) as server:
            settings = Settings(postgres_url=SecretStr(server.url), publish_timeout_seconds=30.0)
            yield Rig(effort, folder, server, Graphs(folder, stack), settings, None)


@asynccontextmanager
async def fresh(
    rig: Rig, *, real: bool = False, topics: Sequence[str] = (TOPIC,)
) -> AsyncIterator[Rig]:
    """Open a migrated database and an empty broker for the length of the block.

    With `real` the broker is Apache Kafka with these topics, and `kafka` is None where it cannot
    run; without it, the broker is the stand-in.
    """
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(_database(rig))
        try:
            kafka = await stack.enter_async_context(_broker(rig.folder, topics if real else None))
        except StackError as absent:
            yield replace(rig, why_no_kafka=str(absent).splitlines()[0])
            return
        update = {"postgres_url": SecretStr(url), "kafka_url": kafka.url}
        yield replace(rig, settings=rig.settings.model_copy(update=update), kafka=kafka)


@asynccontextmanager
async def best(rig: Rig, topics: Sequence[str]) -> AsyncIterator[Rig]:
    """Open a migrated database, and a real broker or else the stand-in, for the block's length."""
    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(fresh(rig, real=True, topics=topics))
        yield own if own.kafka else await stack.enter_async_context(fresh(rig))


@asynccontextmanager
async def _database(rig: Rig) -> AsyncIterator[str]:
    name = f"bench_{secrets.token_hex(4)}"
    async with await psycopg.AsyncConnection.connect(rig.postgres.url, autocommit=True) as admin:
        await admin.execute(f"CREATE DATABASE {name}".encode())
        url = rig.postgres.url.rsplit("/", 1)[0] + f"/{name}"
        await migrate(url, outbox_migrations())
        yield url
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@asynccontextmanager
async def _broker(folder: Path, topics: Sequence[str] | None) -> AsyncIterator[Part]:
    """Run a real broker with these topics, or without topics the stand-in."""
    own = folder / secrets.token_hex(4)
    own.mkdir()
    if topics is None:
        async with broker(own, MOCK) as part:
            yield part
        return
    async with KafkaServer(own, REAL) as server:
        await create_topics(server.url, topics, PARTITIONS)
        yield server.part
