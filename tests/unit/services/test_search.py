"""Search: whatever answers in Qdrant's place is a dependency failure, not an unexpected error."""

from collections.abc import Sequence

import httpx
import pytest
from qdrant_client import AsyncQdrantClient, models

from outbox.errors import DependencyDown, StoreUnfit
from schemas.catalog import COLLECTION
from services.catalog.search import Search

pytestmark = pytest.mark.anyio


class Zeros:
    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [[0.0] for _ in texts]

    def named(self, model: str) -> "Zeros":
        del model
        return self


class NoModels:
    def named(self, model: str) -> Zeros:
        raise StoreUnfit(f"no embedding model {model} here")


NO_ANSWERS = {
    "busy": httpx.Response(429, headers={"retry-after": "1"}, json={"status": {"error": "busy"}}),
    "a page": httpx.Response(200, text="<html>"),
    "no result": httpx.Response(200, json={"status": "ok"}),
    "failing": httpx.Response(500),
}


@pytest.mark.parametrize("kind", NO_ANSWERS)
async def test_what_is_no_answer_is_an_outage(kind: str) -> None:
    """Q10: a stand-in at the HTTP port."""
    client = AsyncQdrantClient(
        url="http://qdrant.test",
        check_compatibility=False,
        transport=httpx.MockTransport(lambda _: NO_ANSWERS[kind]),
    )
    search = Search(lambda: client, Zeros())
    with pytest.raises(DependencyDown, match="qdrant"):
        await search.query("c", "where", {}, 10, 0)
    with pytest.raises(DependencyDown, match="qdrant"):
        await search.entries("c")
    assert await search.available() is False
    await client.close()


@pytest.mark.parametrize(
    ("metadata", "why"),
    [({"model": "word2vec"}, "no embedding model word2vec"), ({}, "it names no model")],
)
async def test_a_collection_that_nobody_here_can_ask_is_an_outage(
    metadata: dict[str, str], why: str
) -> None:
    """A client is answered by 503, and not by an unexpected error."""
    client = AsyncQdrantClient(":memory:")
    size = models.VectorParams(size=1, distance=models.Distance.COSINE)
    await client.create_collection("live", vectors_config=size, metadata=metadata)
    alias = models.CreateAlias(collection_name="live", alias_name=COLLECTION)
    await client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    search = Search(lambda: client, NoModels())
    with pytest.raises(DependencyDown, match=f"collection live: {why}"):
        await search.query("c", "where", {}, 10, 0)
    await client.close()
