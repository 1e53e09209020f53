"""The secondary stores that questions are asked of: the best this machine has the means for.

Qdrant's local mode is asked in memory: on disk it commits each point by itself, and that is all
there would be to see.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from neo4j import AsyncDriver
from qdrant_client import AsyncQdrantClient

from bench.rig import Rig
from consumers.neo4j import connect as connect_graph
from stack.part import VectorsPart
from stack.settings import StackSettings
from stack.vectors import connect as connect_vectors
from stack.vectors import vectors


@dataclass(frozen=True, slots=True)
class VectorStore:
    """A client of Qdrant; `provider` says what stands behind it."""

    provider: str
    client: AsyncQdrantClient


@dataclass(frozen=True, slots=True)
class GraphStore:
    """A driver of a graph, and the database in it."""

    provider: str
    driver: AsyncDriver
    database: str


@asynccontextmanager
async def vectors_part() -> AsyncIterator[VectorsPart]:
    """Qdrant: at QDRANT_URL with what it holds, in a container, or local mode in memory."""
    async with vectors(None, StackSettings(qdrant_provider="best")) as part:
        yield part


@asynccontextmanager
async def vector_store() -> AsyncIterator[VectorStore]:
    """A client, open for the length of the block."""
    async with vectors_part() as part:
        client = connect_vectors(part)
        try:
            yield VectorStore(part.provider, client)
        finally:
            await client.close()


@asynccontextmanager
async def graph_store(rig: Rig) -> AsyncIterator[GraphStore]:
    """A driver, open for the length of the block."""
    part = await rig.graphs.empty()
    async with connect_graph(part.url, part.user, part.password.get_secret_value()) as driver:
        yield GraphStore(part.provider, driver, part.database)
