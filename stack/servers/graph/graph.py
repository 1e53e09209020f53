"""The graph: the server at NEO4J_URL, or Neo4j itself, or ArcadeDB over Bolt."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from stack.part import GraphPart
from stack.process.probe import Probe, answer_within
from stack.servers.container import engine_answers
from stack.servers.graph.arcadedb import ArcadeServer
from stack.servers.graph.bolt import NOT_YET, ask
from stack.servers.graph.neo4j import Neo4jServer, has_means, in_container
from stack.settings import StackSettings


@asynccontextmanager
async def graph(folder: Path, settings: StackSettings | None = None) -> AsyncIterator[GraphPart]:
    """Open a graph for the length of the block; the official neo4j driver reaches it.

    Without NEO4J_URL the setting STACK_GRAPH chooses (see `choose_provider`). PartMissing is raised
    where Neo4j was chosen and Docker, or Java or Maven, is missing: ArcadeDB never replaces it.
    """
    settings = settings or StackSettings()
    if settings.neo4j_url:
        yield await remote(settings.neo4j_url, settings)
        return
    async with own_part(await choose_provider(settings), folder, settings) as part:
        yield part


async def choose_provider(settings: StackSettings) -> str:
    """Return `docker`, `maven` or `arcadedb`: what STACK_GRAPH says.

    If it says `best`: a container where a Docker engine answers, else Neo4j's own jars where Java
    and Maven are, else ArcadeDB. A provider that is there and then fails is not replaced by
    another one.
    """
    if settings.graph_provider != "best":
        return settings.graph_provider
    if await engine_answers():
        return "docker"
    return "maven" if await has_means(settings) else "arcadedb"


@asynccontextmanager
async def own_part(
    provider: str, folder: Path, settings: StackSettings
) -> AsyncIterator[GraphPart]:
    """Start a graph of this provider, and stop it at the end of the block."""
    if provider == "docker":
        async with in_container(settings) as part:
            yield part
        return
    kind = Neo4jServer if provider == "maven" else ArcadeServer
    async with kind(folder, settings) as server:
        yield server.part


async def remote(url: str, settings: StackSettings) -> GraphPart:
    """Return the server at a URL, once it answers a query with the user and password given."""
    part = GraphPart(
        name="graph",
        provider="environment NEO4J_URL",
        url=url,
        user=settings.neo4j_user,
        password=settings.graph_password(),
        database=settings.neo4j_database,
    )
    probe = Probe(lambda: ask(part), NOT_YET)
    await answer_within(probe, settings.ready_timeout_seconds, f"Neo4j ({part.provider})")
    return part
