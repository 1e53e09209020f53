"""Search: whatever answers in Qdrant's place is a dependency failure, not an unexpected error."""

from collections.abc import Sequence

import httpx
import pytest
from qdrant_client import AsyncQdrantClient

from outbox.errors import DependencyDown
from services.catalog.search import Search

pytestmark = pytest.mark.anyio


class Zeros:
    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [[0.0] for _ in texts]

    def named(self, model: str) -> "Zeros":
        del model
        return self


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
