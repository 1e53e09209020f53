"""What a point in Qdrant promises: a fence in the store, payloads that stay as they are, limits."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient, models

from consumers.mappings.catalog import ITEM, catalog_qdrant, document
from consumers.projections.projection import Entry
from consumers.qdrant.projection import LIVE, Document, QdrantProjection, point_id
from outbox.errors import MessageRejected, StoreUnfit
from schemas.catalog import COLLECTION
from tests.kit.projections.projection_suite import (
    DIMENSION,
    CountingEmbedder,
    assert_shows,
    removed,
    upserted,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def projection(
    client: AsyncQdrantClient, embedder: CountingEmbedder
) -> AsyncIterator[QdrantProjection]:
    made = catalog_qdrant(client, embedder)
    await made.prepare()
    yield made


class Stale(QdrantProjection):
    """Reads nothing, as if it had read before all other writers wrote."""

    async def _retrieve(self, *_: Any, **__: Any) -> list[models.Record]:
        return []


@pytest.mark.parametrize("late", [upserted("a", 4), removed("a", 4), upserted("a", 5, "other")])
async def test_the_fence_is_in_the_store(
    projection: QdrantProjection, client: AsyncQdrantClient, embedder: CountingEmbedder, late: Any
) -> None:
    stale = Stale(client, COLLECTION, document, embedder, aggregates=[ITEM], topics=())
    await projection.apply([upserted("a", 5)])
    await stale.apply([late])
    await assert_shows(projection, [upserted("a", 5)])


async def test_a_deleted_point_is_in_no_search_of_the_live(
    projection: QdrantProjection, client: AsyncQdrantClient
) -> None:
    await projection.apply([upserted("a", 1), upserted("b", 1)])
    await projection.apply([removed("a", 2)])
    anything = [1.0] + [0.0] * (
        DIMENSION - 1
    )  # a tombstone has this vector, so it would be the nearest
    found = await client.query_points(COLLECTION, query=anything, query_filter=LIVE, limit=10)
    assert [(point.payload or {})["key"] for point in found.points] == ["suite/b"]
    assert (await projection.count(), await projection.count(None)) == (1, 2)


async def test_the_fields_cannot_overwrite_our_own_names(
    client: AsyncQdrantClient, embedder: CountingEmbedder
) -> None:
    projection = catalog_qdrant(client, embedder)
    await projection.prepare()
    change = upserted("a", 7, version="1", deleted="true")
    await projection.apply([change])
    (record,) = await client.retrieve(COLLECTION, [point_id(change.stream)])
    payload = record.payload or {}
    assert (payload["version"], payload["deleted"]) == (7, False)
    assert payload["fields"]["attributes"] == {"version": "1", "deleted": "true"}


async def test_another_dimension_is_refused(
    client: AsyncQdrantClient, embedder: CountingEmbedder
) -> None:
    size = models.VectorParams(size=3, distance=models.Distance.COSINE)
    await client.create_collection(COLLECTION, vectors_config=size)
    with pytest.raises(StoreUnfit, match="dimension 3"):
        await catalog_qdrant(client, embedder).prepare()


async def test_a_missing_collection_stops_the_consumer(
    projection: QdrantProjection, client: AsyncQdrantClient
) -> None:
    await client.delete_collection(COLLECTION)
    for call in (projection.apply([upserted("a", 1)]), projection.count()):
        with pytest.raises(StoreUnfit, match=f"no collection {COLLECTION}"):
            await call


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
async def test_an_integer_that_the_store_would_change_is_refused(
    client: AsyncQdrantClient, embedder: CountingEmbedder, value: int
) -> None:
    """FA6: Qdrant keeps integers of 64 bits, and makes a float of a longer one."""
    wide = QdrantProjection(
        client,
        "wide",
        lambda _: Document("x", {"n": value}),
        embedder,
        aggregates=(),
        topics=(),
    )
    await wide.prepare()
    with pytest.raises(MessageRejected, match="refused-by-store: fields: must be JSON"):
        await wide.apply([upserted("a", 1)])
    assert await wide.count() == 0


async def test_a_version_that_the_store_cannot_compare_is_refused(
    projection: QdrantProjection,
) -> None:
    with pytest.raises(MessageRejected, match="refused-by-store"):
        await projection.apply([upserted("a", 2**53 + 1)])


async def test_many_points_come_out_as_they_went_in(projection: QdrantProjection) -> None:
    changes = [upserted(f"i{n}", 1, "same") for n in range(600)]
    await projection.apply(changes)
    shown = await projection.versions([change.stream for change in changes])
    assert shown == {c.stream: Entry(c.stream, 1, c.digest, False) for c in changes}
