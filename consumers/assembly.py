"""Puts the consumers together from settings, with their clients; `installed` has their names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from qdrant_client import AsyncQdrantClient

from consumers.commands import CommandReaction
from consumers.mappings.catalog import catalog_graph_generations, catalog_vector_generations
from consumers.neo4j.projection import connect
from consumers.projections.generations import LiveProjection
from consumers.settings import Settings
from outbox.write.database import Database
from services.assembly import catalog, embedder_of, qdrant
from services.catalog.embedder import WordLlamaEmbedder


@asynccontextmanager
async def catalog_graph(settings: Settings) -> AsyncIterator[LiveProjection]:
    """The graph projection of the catalog, over a driver of its own."""
    password = settings.neo4j_password.get_secret_value()
    driver = connect(settings.neo4j_url, settings.neo4j_user, password)
    async with driver:
        generations = catalog_graph_generations(
            driver, settings.neo4j_database, answer_seconds=settings.neo4j_answer_seconds
        )
        yield LiveProjection(generations)


@asynccontextmanager
async def catalog_vectors(settings: Settings) -> AsyncIterator[LiveProjection]:
    """The search projection of the catalog, over a client of its own."""
    client = qdrant(settings)
    try:
        yield live_vectors(client, embedder_of(settings))
    finally:
        await client.close()


def live_vectors(client: AsyncQdrantClient, embedder: WordLlamaEmbedder) -> LiveProjection:
    """The search projection over a client that is open already.

    If it has to make the first generation, that is of this embedder's model.
    """
    return LiveProjection(catalog_vector_generations(client, embedder.named, embedder.model))


@asynccontextmanager
async def catalog_commands(settings: Settings) -> AsyncIterator[CommandReaction]:
    """The catalog's command consumer, over a database pool of its own."""
    async with Database(settings, "catalog") as database:
        api = catalog(database, lambda: qdrant(settings), embedder_of(settings))
        yield CommandReaction("catalog", api.dispatcher)
