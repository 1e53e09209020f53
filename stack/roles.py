"""Roles: relay, consumers and HTTP server in one process, for `python -m stack demo`.

In production each role is a process of its own. This module is the only difference.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from consumers.assembly import catalog_graph, live_vectors
from consumers.commands import CommandReaction
from consumers.projections.projection import Projection, ProjectionReaction
from consumers.read_your_writes import WaitedStores
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.relay.relay import Relay
from outbox.write.database import Database
from services.assembly import catalog, embedder_of, qdrant
from services.catalog.routes import Api
from web.server import Serving


@dataclass(frozen=True)
class Roles:
    """The roles that run, the URL of HTTP, and the projections to compare with PostgreSQL."""

    api: Api
    projections: tuple[Projection, Projection]
    runners: dict[str, Runner]
    http_url: str


@asynccontextmanager
async def roles(settings: Settings) -> AsyncIterator[Roles]:
    """Run all roles for the length of the block; stop them in order, then close the stores."""
    client = qdrant(settings)
    embedder = embedder_of(settings)
    try:
        async with Database(settings, "catalog") as database, catalog_graph(settings) as graph:
            vectors = live_vectors(client, embedder)
            api = catalog(
                database, lambda: client, embedder, _wait_for(settings, database, vectors, graph)
            )
            runners = {
                "commands": Runner(settings, CommandReaction("catalog", api.dispatcher)),
                "qdrant": Runner(settings, ProjectionReaction(vectors)),
                "graph": Runner(settings, ProjectionReaction(graph)),
            }
            async with running(Relay(settings), *runners.values()), _serving(settings, api) as url:
                yield Roles(api, (vectors, graph), runners, url)
    finally:
        await client.close()


def _wait_for(settings: Settings, database: Database, *projections: Projection) -> WaitedStores:
    """Wait for the stores that are open here already: local mode admits no second client."""
    opened = {each.name: partial(_lend, each) for each in projections}
    return WaitedStores(settings, database, opened)


@asynccontextmanager
async def _lend(projection: Projection, _: Settings) -> AsyncIterator[Projection]:
    yield projection


@asynccontextmanager
async def running(*workers: Relay | Runner) -> AsyncIterator[None]:
    """Run each worker in a task; one that fails ends the block, whose end stops all of them."""
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker.run())
        try:
            yield
        finally:
            for worker in workers:
                worker.stop()


@asynccontextmanager
async def _serving(settings: Settings, api: Api) -> AsyncIterator[str]:
    serving = Serving(settings.model_copy(update={"drain_seconds": 0.0}), api)
    task = asyncio.create_task(serving.run())
    up = asyncio.create_task(serving.url())
    try:
        await asyncio.wait({task, up}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield await up
    finally:
        up.cancel()
        serving.stop()
        await task
