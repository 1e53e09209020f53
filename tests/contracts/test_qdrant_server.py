"""The server at QDRANT_URL keeps every promise; the tests use collections of their own.

Without QDRANT_URL they are skipped.
"""

import secrets
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from qdrant_client import AsyncQdrantClient, models

from consumers.mappings.catalog import catalog_qdrant
from consumers.projections.testing.conformance import PROMISES, Promise, assert_shows
from consumers.qdrant.projection import LIVE, QdrantProjection
from outbox.errors import DependencyDown, MessageRejected, StoreUnfit
from stack.settings import StackSettings
from tests.kit.projections.changes import BATCH, SAMPLE
from tests.kit.projections.projection_suite import DIMENSION, CountingEmbedder, StumblingEmbedder
from tests.kit.proxies.proxy import DOWN, Proxy
from tests.kit.proxies.toxics import LimitData

URL = StackSettings().qdrant_url
TIMEOUT_SECONDS = 30

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not URL, reason="QDRANT_URL names no server"),
]


def connect(url: str) -> AsyncQdrantClient:
    key = StackSettings().qdrant_api_key
    return AsyncQdrantClient(
        url=url,
        api_key=key.get_secret_value() if key else None,
        timeout=TIMEOUT_SECONDS,
        check_compatibility=False,
    )


@pytest.fixture
async def client() -> AsyncIterator[AsyncQdrantClient]:
    client = connect(str(URL))
    yield client
    await client.close()


@pytest.fixture
async def projection(client: AsyncQdrantClient) -> AsyncIterator[QdrantProjection]:
    made = catalog_qdrant(client, CountingEmbedder(), f"conformance-{secrets.token_hex(6)}")
    await made.prepare()
    yield made
    await client.delete_collection(made.collection)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_the_server_keeps(promise: Promise, projection: QdrantProjection) -> None:
    await promise(projection, SAMPLE)


async def test_a_deleted_point_is_in_no_search_of_the_live(
    projection: QdrantProjection, client: AsyncQdrantClient
) -> None:
    await projection.apply(BATCH)
    anything = [1.0] + [0.0] * (
        DIMENSION - 1
    )  # a tombstone has this vector, so it would be the nearest
    found = await client.query_points(
        projection.collection, query=anything, query_filter=LIVE, limit=10
    )
    assert {(point.payload or {})["key"] for point in found.points} == {"suite/a", "suite/b"}
    assert (await projection.count(), await projection.count(None)) == (2, 3)


async def test_of_a_refused_batch_only_the_bad_point_is_rejected(
    projection: QdrantProjection, client: AsyncQdrantClient
) -> None:
    stumbling = catalog_qdrant(client, StumblingEmbedder("b\n"), projection.collection)
    with pytest.raises(MessageRejected, match="suite/b"):
        await stumbling.apply(BATCH)
    await assert_shows(projection, [BATCH[0], BATCH[2]])


async def test_a_collection_made_anew_in_another_dimension_stops_the_consumer(
    projection: QdrantProjection, client: AsyncQdrantClient
) -> None:
    await client.delete_collection(projection.collection)
    with pytest.raises(StoreUnfit, match="no collection"):
        await projection.apply(BATCH)
    size = models.VectorParams(size=DIMENSION + 1, distance=models.Distance.COSINE)
    await client.create_collection(projection.collection, vectors_config=size)
    with pytest.raises(StoreUnfit, match="has dimension"):
        await projection.apply(BATCH)


@pytest.mark.skipif(urlsplit(URL or "").scheme == "https", reason="the proxy cannot stand in TLS")
async def test_what_came_through_a_line_that_broke_is_done_once(
    projection: QdrantProjection,
) -> None:
    parts = urlsplit(str(URL))
    async with Proxy(f"{parts.hostname}:{parts.port or 6333}") as between:
        behind = connect(f"http://{between.address}")
        broken = catalog_qdrant(behind, CountingEmbedder(), projection.collection)
        with between.toxic(LimitData(40), DOWN), pytest.raises(DependencyDown):
            await broken.apply(BATCH)
        await broken.apply(BATCH)
        await behind.close()
    await assert_shows(projection, BATCH)
