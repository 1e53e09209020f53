"""Stores: both stores, by our projections and by their own clients.

The stores' own clients write past every version fence of ours.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain

from neo4j import AsyncDriver
from qdrant_client import AsyncQdrantClient

from consumers.mappings.catalog import catalog_neo4j, catalog_qdrant
from consumers.neo4j.projection import connect
from consumers.projections.projection import Change, Projection
from consumers.settings import Settings
from schemas.catalog import COLLECTION
from services.assembly import qdrant
from services.catalog.embedder import WordLlamaEmbedder
from stack.drill import contents, planting
from stack.drill.planting import Plan


@dataclass(frozen=True)
class DrillStores:
    """Both stores, by our projections and by their own clients."""

    qdrant: Projection
    graph: Projection
    client: AsyncQdrantClient
    driver: AsyncDriver
    database: str

    @property
    def projections(self) -> tuple[Projection, Projection]:
        return self.qdrant, self.graph

    async def contents(self, planned: Plan) -> dict[str, contents.Contents]:
        """Return the contents of each store, by the projection's name."""
        rewritten = frozenset(stream.key for stream in chain(*planned.streams().values()))
        return {
            self.qdrant.name: await contents.read_points(self.client, COLLECTION, rewritten),
            self.graph.name: await contents.read_nodes(self.driver, self.database),
        }

    async def plant(self, planned: Plan, older: Mapping[str, Change]) -> None:
        """Break both stores as planned; `older` has what each stale key is rolled back to."""
        dimension = WordLlamaEmbedder().dimension
        await planting.plant_points(self.client, COLLECTION, planned, older, dimension)
        await planting.plant_nodes(self.driver, self.database, planned, older)


@asynccontextmanager
async def both_stores(settings: Settings) -> AsyncIterator[DrillStores]:
    """Open both stores for the length of the block; their collections are not prepared here."""
    client = qdrant(settings)
    password = settings.neo4j_password.get_secret_value()
    try:
        async with connect(settings.neo4j_url, settings.neo4j_user, password) as driver:
            vectors = catalog_qdrant(client, WordLlamaEmbedder())
            vectors.page_points = contents.PAGE  # local mode sorts all points for each page
            yield DrillStores(
                vectors,
                catalog_neo4j(driver, settings.neo4j_database),
                client,
                driver,
                settings.neo4j_database,
            )
    finally:
        await client.close()
