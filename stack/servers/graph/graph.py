"""The graph: the server at NEO4J_URL, or Neo4j itself, or ArcadeDB over Bolt."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from stack.part import GraphPart
from stack.process.probe import Probe, answer_within
from stack.servers.graph.arcadedb import ArcadeServer
from stack.servers.graph.bolt import NOT_YET, ask
from stack.servers.graph.neo4j import Neo4jServer, has_means, in_container
from stack.servers.provider import Providers
from stack.settings import StackSettings

PROVIDERS = Providers(
    in_container=in_container,
    has_means=has_means,
    from_jars=Neo4jServer,
    stand_in="arcadedb",
    as_stand_in=ArcadeServer,
)


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
    async with PROVIDERS.start(await choose_provider(settings), folder, settings) as part:
        yield part


async def choose_provider(settings: StackSettings) -> str:
    """Return `docker`, `maven` or `arcadedb`: what STACK_GRAPH says (see `Providers.choose`)."""
    return await PROVIDERS.choose(settings.graph_provider, settings)


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
