"""What every test may ask for: real servers, each shared as widely as its state allows.

PostgreSQL is always real; a test has a database of its own, copied from a migrated template. The
broker is what STACK_KAFKA says: without it a stand-in, a process a test; with `best`, as in CI, a
real one where this machine has the means, shared, with new topics a test. The graph is shared and
emptied. The report says what stood behind each.
"""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import psycopg
import pytest
from neo4j import AsyncGraphDatabase
from pydantic import SecretStr
from sqlalchemy import make_url

from consumers.assembly import catalog_graph, catalog_vectors
from consumers.projections.generations import LiveProjection
from consumers.projections.projection import Projection
from consumers.settings import Settings
from outbox.postgres.migrate import migrate
from outbox.runtime import logs
from services.migrations import all_migrations
from tests.kit import defaults, selection, skips
from tests.kit.projections.followers import memory
from tests.kit.report import COUNTS, PROVIDERS, say
from tests.kit.report import pytest_sessionfinish as pytest_sessionfinish
from tests.kit.report import pytest_terminal_summary as pytest_terminal_summary
from tests.kit.report import pytest_testnodedown as pytest_testnodedown
from tests.kit.topics import emptied

TEMPLATE = "aftercommit_template"
# No example of a test is too slow: how fast the machine is, no test says.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")
if defaults.are_odd():
    defaults.keep_the_tests_own_sessions_usual()


@dataclass(frozen=True)
class Servers:
    """The environment of the servers that all tests share.

    `real_kafka`: it is Apache Kafka, and of our own making, so that nobody misses its topics.
    `real_graph`: it is Neo4j, and of our own making.
    """

    environment: dict[str, str]
    real_kafka: bool
    real_graph: bool

    @property
    def postgres_url(self) -> str:
        return self.environment["POSTGRES_URL"]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(selection, "selection")
    config.pluginmanager.register(skips, "skips")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Adds a line to the end of the report: what a test has drawn, done and seen."""
    return lambda line: say(COUNTS, f"{request.node.name}: {line}")


@pytest.fixture(scope="session", autouse=True)
def quiet() -> None:
    logs.configure("console", "error")


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """All parts, started as a user starts them: by `python -m stack up`."""
    command = [sys.executable, "-m", "stack", "up", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the servers could not be started; why is on the standard error"
        up = json.loads(line)
        for name, provider in up["providers"].items():
            note = " [stand-in: proves nothing about the real one]"
            say(PROVIDERS, f"{name}: {provider}{note if name in up['stand_ins'] else ''}")
        try:
            behind = up["providers"]
            yield Servers(
                up["environment"],
                real_kafka=behind["kafka"].startswith("Apache Kafka"),
                real_graph=behind["graph"].startswith("Neo4j Community"),
            )
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.fixture(scope="session")
def template(servers: Servers) -> str:
    """A database with every migration, to copy from."""
    with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
        defaults.alter(connection, TEMPLATE)
    url = _with_database(servers.postgres_url, TEMPLATE)
    asyncio.run(migrate(url, all_migrations()))
    return url


@contextmanager
def own_database(servers: Servers, template: str) -> Iterator[str]:
    """A migrated database for the length of the block."""
    with _new_database(servers, f"TEMPLATE {TEMPLATE}") as (connection, name):
        defaults.alter(connection, name)
        yield _with_database(template, name)


@contextmanager
def _new_database(servers: Servers, copied: str = "") -> Iterator[tuple[psycopg.Connection, str]]:
    """Yield a connection to the server, and the name of a database that is dropped at the end."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {copied}")
        yield connection, name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_url(servers: Servers) -> Iterator[str]:
    """A database of this test's own without any migration."""
    with _new_database(servers) as (_, name):
        yield _with_database(servers.postgres_url, name)


@pytest.fixture
def postgres_url(servers: Servers, template: str) -> Iterator[str]:
    """A migrated database of this test's own."""
    with own_database(servers, template) as url:
        yield url


@pytest.fixture
def reference_url(servers: Servers, template: str) -> Iterator[str]:
    """Another one, for the state that a test compares with."""
    with own_database(servers, template) as url:
        yield url


@pytest.fixture
async def graph(settings: Settings) -> AsyncIterator[LiveProjection]:
    """The catalog's graph projection, prepared, over an emptied graph."""
    async with catalog_graph(settings) as projection:
        await empty(settings)
        await projection.prepare()
        yield projection


@pytest.fixture(params=["memory", "qdrant", "graph"])
async def store(
    request: pytest.FixtureRequest, settings: Settings, graph: LiveProjection
) -> AsyncIterator[Projection]:
    """A projection of the catalog's items, in each kind of store; what stood in the report says."""
    if request.param == "memory":
        yield memory()
    elif request.param == "graph":
        yield graph
    else:
        async with catalog_vectors(settings) as vectors:
            await vectors.prepare()
            yield vectors


async def empty(settings: Settings) -> None:
    """Remove every node of the shared graph."""
    auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())
    async with AsyncGraphDatabase.driver(settings.neo4j_url, auth=auth) as driver:
        await driver.execute_query("MATCH (n) DETACH DELETE n", database_=settings.neo4j_database)


@pytest.fixture
def kafka_url(servers: Servers) -> Iterator[str]:
    """A broker with new and empty topics: the shared real one, else a stand-in of this test's own.

    One at KAFKA_URL is used as it is: whatever it holds may be somebody's.
    """
    if servers.real_kafka:
        yield emptied(servers.environment["KAFKA_URL"])
        return
    if url := os.environ.get("KAFKA_URL"):
        yield url
        return
    command = [sys.executable, "-m", "stack", "broker"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["bootstrap"]
        process.terminate()
        process.wait(20)


@pytest.fixture
def settings(servers: Servers, postgres_url: str, kafka_url: str, tmp_path: Path) -> Settings:
    """Everything that a role needs; quick leases and sessions, so that tests need not wait."""
    environment = servers.environment
    return Settings(
        postgres_url=SecretStr(postgres_url),
        kafka_url=kafka_url,
        qdrant_url=f"file:{tmp_path / 'qdrant'}",
        neo4j_url=environment["NEO4J_URL"],
        neo4j_user=environment["NEO4J_USER"],
        neo4j_password=SecretStr(environment["NEO4J_PASSWORD"]),
        neo4j_database=environment["NEO4J_DATABASE"],
        lease_seconds=2.0,
        poll_at_rest_milliseconds=5,
        session_timeout_milliseconds=3_000,
        receive_wait_milliseconds=50,
    )


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection in autocommit to the test's database."""
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        yield connection


def _with_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)
