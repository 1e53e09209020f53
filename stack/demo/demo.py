"""Demo: real input goes through every part, and then the stores are compared.

An upstream producer sends 3,376 airports as commands to Kafka, changes 300 and removes 50. Each
figure that is reported at the end is counted in the store that it names.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import psycopg
from pydantic import BaseModel, SecretStr

from consumers.drift import check
from consumers.projections.projection import Entry, Projection
from consumers.settings import Settings
from outbox.kafka import Publisher, count_records, create_topics
from outbox.postgres.connection import connect
from outbox.postgres.migrate import migrate
from outbox.status import read_status
from schemas.catalog import CatalogCommandSucceeded
from schemas.registry import REGISTRY
from services.catalog.search import Hit
from services.migrations import all_migrations
from stack.demo import airports, upstream
from stack.demo.report import Report, Steps
from stack.machine import Machine, machine
from stack.roles import Roles, roles

COMMANDS = "catalog.commands"
EVENTS = ("catalog.catalog.events", "catalog.item.events", "catalog.command.events")
QUESTIONS = ("airport near new york", "international airport in chicago", "airport in anchorage")
HITS = 3
PARTITIONS = 4


@dataclass(frozen=True)
class DemoOptions:
    """The options of `python -m stack demo`."""

    once: bool
    limit: int | None
    http_port: int
    data: Path | None
    keep: bool
    patience_seconds: float = 300.0


class Summary(BaseModel):
    """What the stores hold at the end.

    `commands` and `published` are counted in Kafka, `committed` in PostgreSQL, and each other
    figure in the store that it names; `drift_*` are the keys that differ from PostgreSQL.
    """

    commands: int
    committed: int
    published: int
    live_items: int
    deleted_items: int
    qdrant_points: int
    qdrant_tombstones: int
    graph_nodes: int
    graph_tombstones: int
    drift_qdrant: int
    drift_graph: int
    dead_letters: int
    seconds: float

    @property
    def agrees(self) -> bool:
        return (
            self.drift_qdrant == self.drift_graph == self.dead_letters == 0
            and self.committed == self.published
            and self.live_items == self.qdrant_points == self.graph_nodes
        )


class DisagreementError(Exception):
    """The stores do not agree at the end of the demo."""


async def demo(options: DemoOptions, report: Report) -> None:
    """Run the whole demo.

    DisagreementError is raised if a store lost a message, has one twice, or kept a deleted item.
    Without `options.once` it then goes on serving HTTP until it is cancelled.
    """
    async with machine(options.data, keep=options.keep) as parts:
        report.providers(parts.providers())
        settings = settings_for(parts, options.http_port)
        await prepare(parts, settings)
        async with roles(settings) as running:
            summary = await _send_and_count(options, settings, running, report)
            report.comparison(summary.model_dump())
            for question in QUESTIONS:
                report.hits(question, await _search(running, question))
            report.summary(summary.model_dump())
            if not summary.agrees:
                raise DisagreementError(summary.model_dump_json())
            if not options.once:
                report.waiting(running.http_url)
                await asyncio.Event().wait()


def settings_for(parts: Machine, http_port: int) -> Settings:
    """Return the roles' settings for these parts."""
    key = parts.qdrant.api_key
    return Settings(
        postgres_url=SecretStr(parts.postgres.url),
        kafka_url=parts.kafka.url,
        # A fetch that finds nothing waits for its whole time at the mock broker, even if a message
        # comes meanwhile.
        fetch_wait_milliseconds=50 if parts.kafka.stand_in else 500,
        qdrant_url=parts.qdrant.url,
        qdrant_api_key=SecretStr(key.get_secret_value()) if key else None,
        neo4j_url=parts.graph.url,
        neo4j_user=parts.graph.user,
        neo4j_password=parts.graph.password,
        neo4j_database=parts.graph.database,
        http_port=http_port,
    )


async def prepare(parts: Machine, settings: Settings) -> None:
    """Apply all migrations and create all topics."""
    await migrate(settings.libpq_url(), all_migrations())
    if not parts.kafka.stand_in:  # the stand-in makes every topic itself
        await create_topics(settings.kafka_url, REGISTRY.topics(), PARTITIONS)


async def _send_and_count(
    options: DemoOptions, settings: Settings, running: Roles, report: Report
) -> Summary:
    commands = list(airports.commands(airports.read(options.limit)))
    started = monotonic()
    async with (
        Publisher(settings.kafka_url, 30.0) as publisher,
        await connect(settings, "demo") as connection,
    ):
        with report.progress(len(commands) + 1) as steps:
            watching = asyncio.create_task(_watch(connection, running, steps))
            try:
                await _create_catalog(publisher, settings)
                steps.add_sent(1)
                await upstream.send(publisher, commands, steps.add_sent)
                async with asyncio.timeout(options.patience_seconds):
                    await watching
            finally:
                watching.cancel()
        seconds = monotonic() - started
        return await _count(connection, settings, running.projections, seconds)


async def _create_catalog(publisher: Publisher, settings: Settings) -> None:
    """Create the catalog, and await the answer: items have other keys, and need their catalog."""
    answer = await upstream.ask(publisher, settings.kafka_url, airports.create_catalog(), 60.0)
    if answer.type != CatalogCommandSucceeded.type:
        raise DisagreementError(f"CreateCatalog was answered by {answer.type}")


async def _watch(connection: psycopg.AsyncConnection, running: Roles, steps: Steps) -> None:
    """Move the bars until every command has had its effect in both stores."""
    runners = running.runners
    while not steps.done:
        rows = await connection.execute(
            "SELECT (SELECT count(*) FROM outbox.receipts),"
            " (SELECT published FROM outbox.relay WHERE name = 'main')"
        )
        row = await rows.fetchone()
        committed, published = row or (0, 0)
        embedded, graphed = runners["qdrant"].counts.applied, runners["graph"].counts.applied
        steps.show(committed, published, embedded, graphed)
        await asyncio.sleep(0.1)


async def _count(
    connection: psycopg.AsyncConnection,
    settings: Settings,
    projections: tuple[Projection, Projection],
    seconds: float,
) -> Summary:
    """Ask each store what it holds."""
    vectors, graph = projections
    points, of_graph = await _read_entries(vectors), await _read_entries(graph)
    nodes = [entry for entry in of_graph if entry.stream.aggregate == "catalog.item"]
    records = await count_records(settings.kafka_url, [COMMANDS, *EVENTS])
    commands = records.pop(COMMANDS)
    return Summary(
        commands=commands,
        committed=await _read_number(connection, "SELECT count(*) FROM outbox.messages"),
        published=sum(records.values()),
        live_items=await _read_number(connection, "SELECT count(*) FROM catalog.items"),
        deleted_items=await _read_number(
            connection,
            "SELECT count(*) FROM outbox.streams WHERE aggregatetype = 'catalog.item' AND deleted",
        ),
        qdrant_points=_count_where(points, lambda entry: not entry.deleted),
        qdrant_tombstones=_count_where(points, lambda entry: entry.deleted),
        graph_nodes=_count_where(nodes, lambda entry: not entry.deleted),
        graph_tombstones=_count_where(nodes, lambda entry: entry.deleted),
        drift_qdrant=(await check.check_in_memory(connection, vectors)).keys,
        drift_graph=(await check.check_in_memory(connection, graph)).keys,
        dead_letters=(await read_status(connection)).dead_letters,
        seconds=round(seconds, 2),
    )


async def _read_entries(projection: Projection) -> list[Entry]:
    return [entry async for entry in projection.scan() if isinstance(entry, Entry)]


async def _read_number(connection: psycopg.AsyncConnection, query: str) -> int:
    row = await (await connection.execute(query.encode())).fetchone()
    return int(row[0]) if row else 0


def _count_where(entries: list[Entry], condition: Callable[[Entry], bool]) -> int:
    return sum(map(condition, entries))


async def _search(running: Roles, question: str) -> list[Hit]:
    return await running.api.search.query(airports.CATALOG_ID, question, {}, HITS, 0)
