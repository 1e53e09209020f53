"""What a projection in Qdrant asks its embedder for: each text once, and a vector for each text."""

from collections.abc import Sequence

import pytest
from qdrant_client import AsyncQdrantClient

from consumers.mappings.catalog import ITEM, catalog_qdrant, document
from consumers.qdrant.projection import QdrantProjection
from outbox.errors import Halted
from tests.kit.projections.projection_suite import (
    DIMENSION,
    CountingEmbedder,
    removed,
    upserted,
)

pytestmark = pytest.mark.anyio


async def test_the_same_content_is_embedded_once(
    client: AsyncQdrantClient, embedder: CountingEmbedder
) -> None:
    projection = catalog_qdrant(client, embedder)
    await projection.prepare()
    await projection.apply([upserted("a", 1, "runway"), upserted("b", 1, "tower")])
    await projection.apply([upserted("a", 1, "runway")])
    await projection.apply([upserted("a", 2, "runway", colour="red"), removed("b", 2)])
    assert embedder.texts == ["a\nrunway", "b\ntower"]
    assert embedder.calls == 1


async def test_equal_texts_of_a_batch_are_embedded_once(
    client: AsyncQdrantClient, embedder: CountingEmbedder
) -> None:
    same = QdrantProjection(
        client, "same", lambda _: document(upserted("x", 1)), embedder, aggregates=[ITEM], topics=()
    )
    await same.prepare()
    await same.apply([upserted(item, 1) for item in "abc"])
    assert len(embedder.texts) == 1
    assert await same.count() == 3


async def test_a_new_text_or_another_model_is_embedded_again(
    client: AsyncQdrantClient, embedder: CountingEmbedder
) -> None:
    projection = catalog_qdrant(client, embedder)
    await projection.prepare()
    await projection.apply([upserted("a", 1, "runway")])
    await projection.apply([upserted("a", 2, "taxiway")])
    newer = CountingEmbedder("hash-2")
    await catalog_qdrant(client, newer).apply([upserted("a", 3, "taxiway")])
    assert embedder.texts == ["a\nrunway", "a\ntaxiway"]
    assert newer.texts == ["a\ntaxiway"]


class Broken(CountingEmbedder):
    """Returns the given vectors, whatever texts it gets."""

    def __init__(self, made: list[list[float]]) -> None:
        super().__init__()
        self._made = made

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        assert texts
        return self._made


@pytest.mark.parametrize(
    "made",
    [[], [[1.0] * DIMENSION], [[1.0] * 3] * 2, [[1.0] * 3, [1.0] * DIMENSION], [[]]],
    ids=["nothing", "one too few", "too short", "of two lengths", "empty"],
)
async def test_an_embedder_that_does_not_give_a_vector_a_text_stops_the_consumer(
    client: AsyncQdrantClient, made: list[list[float]]
) -> None:
    projection = catalog_qdrant(client, Broken(made))
    await projection.prepare()
    with pytest.raises(Halted, match="repair the embedder"):
        await projection.apply([upserted("a", 1), upserted("b", 1)])
