"""How the consumers are put together from settings."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from consumers.catalog import catalog_neo4j, catalog_qdrant
from consumers.commands import CommandReaction
from consumers.neo4j import Neo4jProjection, connect
from consumers.projection import Projection
from consumers.qdrant import QdrantProjection
from consumers.settings import Settings
from consumers.waited_stores import WaitedStores
from outbox.database import Database
from services.assembly import catalog, qdrant
from services.catalog.embedder import WordLlamaEmbedder

Assemble = Callable[[Settings], AbstractAsyncContextManager[Projection]]


@asynccontextmanager
async def catalog_graph(settings: Settings) -> AsyncIterator[Neo4jProjection]:
    """The graph projection of the catalog, over a driver of its own."""
    password = settings.neo4j_password.get_secret_value()
    driver = connect(settings.neo4j_url, settings.neo4j_user, password)
    async with driver:
        yield catalog_neo4j(
            driver, settings.neo4j_database, answer_seconds=settings.neo4j_answer_seconds
        )


@asynccontextmanager
async def catalog_vectors(settings: Settings) -> AsyncIterator[QdrantProjection]:
    """The search projection of the catalog, over a client of its own."""
    client = qdrant(settings)
    try:
        yield catalog_qdrant(client, WordLlamaEmbedder())
    finally:
        await client.close()


@asynccontextmanager
async def catalog_commands(settings: Settings) -> AsyncIterator[CommandReaction]:
    """The catalog's command consumer, over a database pool of its own."""
    async with Database(settings, "catalog") as database:
        api = catalog(database, lambda: qdrant(settings), WordLlamaEmbedder())
        yield CommandReaction("catalog", api.dispatcher)


PROJECTIONS: dict[str, Assemble] = {"qdrant": catalog_vectors, "neo4j": catalog_graph}


@asynccontextmanager
async def stores(settings: Settings, database: Database) -> AsyncIterator[WaitedStores]:
    """Every store, to be waited for; each is connected when it is first asked."""
    async with WaitedStores(settings, database, PROJECTIONS) as waited:
        yield waited
