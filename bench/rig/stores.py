"""Stores: the secondary stores that are measured, the best that this machine can run.

Without a Qdrant server that is Qdrant's own engine in a process of its own, behind the REST
stand-in of the tests: what crosses the network, and what the engine does with it, are the same as
with the server. Local mode would run inside the consumer, and only its Python would be measured.
"""

import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from neo4j import AsyncDriver
from qdrant_client import AsyncQdrantClient

from bench.rig.rig import Rig
from consumers.neo4j.projection import connect as connect_graph
from stack.part import VectorsPart
from stack.process.probe import Probe, require_listener
from stack.process.process import Process, Program
from stack.servers.container import engine_answers
from stack.servers.mock_broker import import_path
from stack.servers.port import LOOPBACK, free_ports
from stack.servers.vectors import connect as connect_vectors
from stack.servers.vectors import remote, vectors
from stack.settings import StackSettings

ENGINE = "Qdrant's engine (wheel qdrant-edge-py) behind a REST stand-in"


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
async def vectors_part(rig: Rig) -> AsyncIterator[VectorsPart]:
    """Open Qdrant for the length of the block.

    That is the server at QDRANT_URL with all that it holds; else an empty one, in a container or
    its engine behind the stand-in.
    """
    settings = StackSettings(qdrant_provider="best")
    server = settings.qdrant_url is not None or await engine_answers()
    async with vectors(None, settings) if server else _engine(rig.folder, settings) as part:
        yield part


@asynccontextmanager
async def _engine(folder: Path, settings: StackSettings) -> AsyncIterator[VectorsPart]:
    own = folder / secrets.token_hex(4)
    (own / "data").mkdir(parents=True)
    (port,) = free_ports(1)
    serve = ("-m", "tests.kit.qdrant.server", str(own / "data"), str(port))
    program = Program(
        name="qdrant",
        argv=(sys.executable, *serve),
        folder=own,
        log=own / "qdrant.log",
        environment={"PYTHONPATH": import_path()},
        holds_stdin=True,
    )
    ready = Probe(partial(require_listener, LOOPBACK, port))
    process, _ = await Process.start(program, ready, settings)
    try:
        part = await remote(f"http://{LOOPBACK}:{port}", settings, ENGINE)
        yield replace(part, stand_in=True)
    finally:
        await process.stop()


@asynccontextmanager
async def vector_store(rig: Rig) -> AsyncIterator[VectorStore]:
    """Open Qdrant and a client of it for the length of the block."""
    async with vectors_part(rig) as part:
        client = connect_vectors(part)
        try:
            yield VectorStore(part.provider, client)
        finally:
            await client.close()


@asynccontextmanager
async def graph_store(rig: Rig) -> AsyncIterator[GraphStore]:
    """Empty the graph, and open a driver of it for the length of the block."""
    part = await rig.graphs.empty()
    async with connect_graph(part.url, part.user, part.password.get_secret_value()) as driver:
        yield GraphStore(part.provider, driver, part.database)
