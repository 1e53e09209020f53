"""Stores for the contract tests: fresh ones for each test; the graph's server is started once."""

from collections.abc import AsyncIterator

import pytest
from neo4j import AsyncDriver
from qdrant_client import AsyncQdrantClient

from consumers.mappings.catalog import catalog_neo4j
from consumers.neo4j.projection import Neo4jProjection
from stack.part import GraphPart
from stack.servers.graph.graph import graph
from stack.settings import StackSettings
from tests.kit.projections.projection_suite import CountingEmbedder, empty_graph


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture
async def client() -> AsyncIterator[AsyncQdrantClient]:
    client = AsyncQdrantClient(location=":memory:")
    yield client
    await client.close()


@pytest.fixture(scope="session")
async def graph_part(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GraphPart]:
    """One graph for all tests; it is always started here, and never an existing one."""
    async with graph(tmp_path_factory.mktemp("graph"), StackSettings(neo4j_url=None)) as part:
        yield part


@pytest.fixture
async def driver(graph_part: GraphPart) -> AsyncIterator[AsyncDriver]:
    """A driver of an empty graph."""
    async with empty_graph(graph_part) as driver:
        yield driver


@pytest.fixture
def database(graph_part: GraphPart) -> str:
    """The name of the graph's database."""
    return graph_part.database


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scan of a graph take several pages also where a test has few nodes."""
    monkeypatch.setattr("consumers.neo4j.projection.SCAN_PAGE_NODES", 300)


@pytest.fixture
async def nodes(driver: AsyncDriver, database: str) -> Neo4jProjection:
    """The projection of the catalog in the empty graph, prepared."""
    projection = catalog_neo4j(driver, database)
    await projection.prepare()
    return projection
