"""What a projection makes of the answers of a Qdrant server, or of the lack of one.

The server is a fake at the HTTP port, which says what the test wants.
"""

from typing import Any

import httpx
import pytest
from qdrant_client import AsyncQdrantClient

from consumers.mappings.catalog import catalog_qdrant
from outbox.errors import DependencyDown, MessageRejected, StoreUnfit
from schemas.catalog import COLLECTION
from stack.servers.port import LOOPBACK, free_ports
from tests.kit.projections.projection_suite import DIMENSION, CountingEmbedder, removed, upserted
from tests.kit.projections.qdrant_replies import (
    INFO,
    answer_writes,
    projection_over,
    refusal,
    result,
)

pytestmark = pytest.mark.anyio


async def test_an_unreachable_server_is_down(embedder: CountingEmbedder) -> None:
    (port,) = free_ports(1)
    client = AsyncQdrantClient(url=f"http://{LOOPBACK}:{port}", check_compatibility=False)
    projection = catalog_qdrant(client, embedder)
    for call in (projection.prepare(), projection.apply([upserted("a", 1)])):
        with pytest.raises(DependencyDown, match="qdrant"):
            await call
    with pytest.raises(DependencyDown):
        await projection.versions([upserted("a", 1).stream])
    with pytest.raises(DependencyDown):
        await anext(projection.scan())
    await client.close()


async def test_the_request_carries_the_fence_and_waits(embedder: CountingEmbedder) -> None:
    seen: list[Any] = []
    statuses = [{"operation_id": 1, "status": "completed"}] * 2
    projection = projection_over(embedder, answer_writes(result(statuses), seen))
    await projection.apply([upserted("a", 1), upserted("b", 1), removed("c", 2)])
    ((one, two),) = [request["operations"] for request in seen]
    assert [len(operation["upsert"]["points"]) for operation in (one, two)] == [2, 1]
    fences = [operation["upsert"]["update_filter"] for operation in (one, two)]
    assert [fence["must"][0]["key"] for fence in fences] == ["version", "version"]
    assert [fence["must"][0]["range"]["lt"] for fence in fences] == [1, 2]


@pytest.mark.parametrize("status", ["acknowledged", "wait_timeout"])
async def test_only_completed_counts_as_applied(embedder: CountingEmbedder, status: str) -> None:
    reply = answer_writes(result([{"operation_id": 1, "status": status}]))
    with pytest.raises(DependencyDown, match=status):
        await projection_over(embedder, reply).apply([upserted("a", 1)])


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 503])
async def test_a_failing_server_is_down(embedder: CountingEmbedder, status: int) -> None:
    reply = answer_writes(httpx.Response(status, text="no"))
    with pytest.raises(DependencyDown, match=str(status)):
        await projection_over(embedder, reply).apply([upserted("a", 1)])


async def test_a_server_that_asks_to_come_later_is_down(embedder: CountingEmbedder) -> None:
    reply = answer_writes(httpx.Response(429, headers={"Retry-After": "1"}, text="{}"))
    with pytest.raises(DependencyDown):
        await projection_over(embedder, reply).apply([upserted("a", 1)])


async def test_points_that_the_server_refuses_are_rejected(embedder: CountingEmbedder) -> None:
    with pytest.raises(MessageRejected, match="refused-by-store: body: suite/a"):
        await projection_over(embedder, answer_writes(refusal(400))).apply([upserted("a", 1)])


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422, 502])
async def test_a_page_of_somebody_else_is_no_refusal(
    embedder: CountingEmbedder, status: int
) -> None:
    reply = answer_writes(httpx.Response(status, text="<html>Your request was blocked</html>"))
    with pytest.raises(DependencyDown, match="blocked"):
        await projection_over(embedder, reply).apply([upserted("a", 1)])


async def test_points_refused_by_a_collection_of_another_dimension_are_not_at_fault(
    embedder: CountingEmbedder,
) -> None:
    embedder.dimension = DIMENSION + 1
    projection = projection_over(embedder, answer_writes(refusal(400)))
    with pytest.raises(StoreUnfit, match="rebuild"):
        await projection.apply([removed("a", 1)])


async def test_an_old_server_is_refused(embedder: CountingEmbedder) -> None:
    root = {"title": "qdrant", "version": "1.18.3"}
    with pytest.raises(StoreUnfit, match=r"1\.19"):
        await projection_over(embedder, lambda _: httpx.Response(200, json=root)).prepare()


async def test_a_server_gets_its_collection_and_indexes(embedder: CountingEmbedder) -> None:
    seen: list[str] = []

    def reply(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.method} {request.url.path}")
        if request.url.path == "/":
            return httpx.Response(200, json={"title": "qdrant", "version": "1.19.0"})
        if request.url.path.endswith("/exists"):
            return result({"exists": False})
        if request.url.path.endswith("/index"):
            return result({"operation_id": 1, "status": "completed"})
        return result(INFO) if request.method == "GET" else result(True)

    await projection_over(embedder, reply).prepare()
    assert seen.count(f"PUT /collections/{COLLECTION}") == 1
    assert seen.count(f"PUT /collections/{COLLECTION}/index") == 4
