"""Stores for the tests of Qdrant: a scripted server, and a projection over HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from qdrant_client import AsyncQdrantClient

from consumers.mappings.catalog import catalog_qdrant
from consumers.qdrant.projection import QdrantProjection
from tests.kit.projections.projection_suite import CountingEmbedder
from tests.kit.qdrant.engine import EdgeEngine, Engine
from tests.kit.qdrant.local import LocalEngine
from tests.kit.qdrant.server import QdrantServer, serving

ENGINES = ("local mode", "own engine")
NO_ENGINE = "Qdrant's own engine is in the wheel qdrant-edge-py, which is not installed"
TIMEOUT_SECONDS = 30
# For tests in which no engine takes part: they need not run over each of them.
IN_LOCAL_MODE = pytest.mark.parametrize("server", ENGINES[:1], indirect=True)


def engine_of(kind: str, folder: Path) -> Engine:
    """The engine of this kind; the test is skipped where Qdrant's own engine is not installed."""
    if kind == "local mode":
        return LocalEngine()
    pytest.importorskip("qdrant_edge", reason=NO_ENGINE)
    folder.mkdir(exist_ok=True)
    return EdgeEngine(folder)


@asynccontextmanager
async def scripted(kind: str, folder: Path) -> AsyncIterator[QdrantServer]:
    """A scripted server over this kind of engine, for the length of the block."""
    async with serving(QdrantServer(engine_of(kind, folder))) as server:
        yield server


@asynccontextmanager
async def over_http(
    address: str, embedder: CountingEmbedder, timeout_seconds: int = TIMEOUT_SECONDS
) -> AsyncIterator[QdrantProjection]:
    """The catalog's items at `host:port`, not prepared yet."""
    client = AsyncQdrantClient(
        url=f"http://{address}",
        timeout=timeout_seconds,
        check_compatibility=False,
        verify=False,  # to read certificates would take longest of all
    )
    try:
        yield catalog_qdrant(client, embedder)
    finally:
        await client.close()
