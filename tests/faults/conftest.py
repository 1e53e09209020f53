"""What the fault tests share: a proxy before the broker, and a witness behind it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from neo4j import AsyncDriver
from pydantic import SecretStr

from consumers.settings import Settings
from stack.part import GraphPart
from tests.conftest import Servers
from tests.kit.consumers.effects import TABLES
from tests.kit.consumers.groups import Connection
from tests.kit.projections.projection_suite import empty_graph
from tests.kit.projections.qdrant_stores import scripted
from tests.kit.proxies.kafka_proxy import KafkaProxy
from tests.kit.qdrant.server import QdrantServer
from tests.kit.verdicts.witness import Witness

SESSION_MILLISECONDS = 4_000


@pytest.fixture
async def proxy(kafka_url: str) -> AsyncIterator[KafkaProxy]:
    """In front of this test's broker."""
    async with KafkaProxy(kafka_url) as proxy:
        yield proxy


@pytest.fixture
async def local_mode(tmp_path: Path) -> AsyncIterator[QdrantServer]:
    """A scripted server over qdrant-client's local mode."""
    async with scripted("local mode", tmp_path) as server:
        yield server


@pytest.fixture
def real_kafka(servers: Servers) -> None:
    if not servers.real_kafka:
        pytest.skip("the mock broker has groups of one member, and removes no records")


@pytest.fixture
async def tables(postgres: Connection) -> Connection:
    """Where the effects of a test's reactions are."""
    await postgres.execute(TABLES.encode())
    return postgres


@pytest.fixture
def member(settings: Settings) -> Settings:
    """Sessions that a busy machine keeps."""
    update = {
        "session_timeout_milliseconds": SESSION_MILLISECONDS,
        "rebalance_timeout_milliseconds": SESSION_MILLISECONDS,
    }
    return settings.model_copy(update=update)


@pytest.fixture
async def witness(settings: Settings) -> AsyncIterator[Witness]:
    """Reads this test's broker from the beginning, past the proxy."""
    async with Witness(settings) as witness:
        yield witness


@pytest.fixture
def graph_part(servers: Servers) -> GraphPart:
    """The graph that all tests share."""
    environment = servers.environment
    return GraphPart(
        name="graph",
        provider="Neo4j" if servers.real_graph else "a stand-in",
        url=environment["NEO4J_URL"],
        stand_in=not servers.real_graph,
        user=environment["NEO4J_USER"],
        password=SecretStr(environment["NEO4J_PASSWORD"]),
        database=environment["NEO4J_DATABASE"],
    )


@pytest.fixture
async def driver(graph_part: GraphPart) -> AsyncIterator[AsyncDriver]:
    """A driver of that graph, empty before and after."""
    async with empty_graph(graph_part) as driver:
        yield driver
    async with empty_graph(graph_part):
        pass
