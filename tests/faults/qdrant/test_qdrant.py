"""Qdrant over HTTP keeps every promise, and is refused where it is not what the code needs.

The server is a stand-in: a scripted port over qdrant-client's local mode and, where its wheel is
installed, over Qdrant's own engine.
"""

import pytest

from consumers.projections.projection import Change
from consumers.projections.testing.conformance import PROMISES, Promise
from consumers.qdrant.projection import QdrantProjection
from outbox.errors import StoreUnfit
from schemas.catalog import COLLECTION
from tests.kit.projections.changes import BATCH, SAMPLE
from tests.kit.projections.projection_suite import DIMENSION, CountingEmbedder
from tests.kit.projections.qdrant_stores import IN_LOCAL_MODE, over_http
from tests.kit.proxies.proxy import Proxy
from tests.kit.qdrant.server import QdrantServer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_over_http_a_projection_keeps(promise: Promise, projection: QdrantProjection) -> None:
    """Q1, Q2: all that every projection promises."""
    await promise(projection, SAMPLE)


@IN_LOCAL_MODE
@pytest.mark.parametrize("version", ["1.18.3", "1.9.7", "0.11.0", "unknown", ""])
async def test_an_old_server_is_refused(
    between: Proxy, server: QdrantServer, embedder: CountingEmbedder, version: str
) -> None:
    """Q6: it names the version to upgrade to, and makes no collection."""
    server.version = version
    async with over_http(between.address, embedder) as projection:
        with pytest.raises(StoreUnfit, match=r"upgrade the server to 1\.19"):
            await projection.prepare()
    assert await server.engine.size(COLLECTION) is None


@IN_LOCAL_MODE
@pytest.mark.parametrize("version", ["1.19.0", "1.20.0-dev", "2.0.0"])
async def test_a_newer_server_serves(
    between: Proxy, server: QdrantServer, embedder: CountingEmbedder, version: str
) -> None:
    server.version = version
    async with over_http(between.address, embedder) as projection:
        await projection.prepare()
    assert await server.engine.size(COLLECTION) == DIMENSION


@pytest.mark.parametrize("changes", [BATCH, BATCH[:1], BATCH[2:]], ids=["batch", "one", "delete"])
async def test_a_collection_that_was_made_anew_in_another_dimension_stops_the_consumer(
    projection: QdrantProjection, server: QdrantServer, changes: list[Change]
) -> None:
    """Q9: no message is at fault."""
    await server.engine.drop(COLLECTION)
    await server.engine.create(COLLECTION, DIMENSION + 1)
    with pytest.raises(StoreUnfit, match=f"has dimension {DIMENSION + 1}"):
        await projection.apply(changes)


async def test_a_missing_collection_stops_the_consumer(
    projection: QdrantProjection, server: QdrantServer
) -> None:
    """Q9: no message is at fault."""
    await server.engine.drop(COLLECTION)
    stream = BATCH[0].stream
    for call in (projection.apply(BATCH), projection.versions([stream]), projection.count()):
        with pytest.raises(StoreUnfit, match=f"no collection {COLLECTION}"):
            await call
    with pytest.raises(StoreUnfit):
        await anext(projection.scan())
