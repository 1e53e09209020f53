"""Fixtures of the Qdrant tests: a scripted server, a proxy before it, and projections over HTTP.

A test module whose server is another one defines fixtures of the same names.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from consumers.qdrant.projection import QdrantProjection
from tests.kit.projections.projection_suite import CountingEmbedder
from tests.kit.projections.qdrant_stores import ENGINES, over_http, scripted
from tests.kit.proxies.proxy import Proxy
from tests.kit.qdrant.server import QdrantServer


@pytest.fixture
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture(params=ENGINES)
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[QdrantServer]:
    """A scripted server, over each engine."""
    async with scripted(request.param, tmp_path / "engine") as server:
        yield server


@pytest.fixture
async def between(server: QdrantServer) -> AsyncIterator[Proxy]:
    """A proxy between the client and the server."""
    async with Proxy(server.address) as proxy:
        yield proxy


@pytest.fixture
async def projection(between: Proxy, embedder: CountingEmbedder) -> AsyncIterator[QdrantProjection]:
    """The catalog's items behind the proxy, prepared."""
    async with over_http(between.address, embedder) as projection:
        await projection.prepare()
        yield projection


@pytest.fixture
async def hasty(between: Proxy, embedder: CountingEmbedder) -> AsyncIterator[QdrantProjection]:
    """The same projection, whose client waits one second for an answer; not prepared."""
    async with over_http(between.address, embedder, timeout_seconds=1) as hasty:
        yield hasty
