"""What only Qdrant promises: nothing embedded twice, a fence in the store, errors in our tree."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest
from qdrant_client import AsyncQdrantClient, models

from consumers.mappings.catalog import ITEM, catalog_qdrant, document
from consumers.projections.projection import Entry
from consumers.qdrant.projection import LIVE, Document, QdrantProjection, point_id
from outbox.errors import DependencyDown, Halted, MessageRejected, SchemaBehind
from schemas.catalog import COLLECTION
from stack.servers.port import LOOPBACK, free_ports
from tests.kit.projections.projection_suite import (
    DIMENSION,
    CountingEmbedder,
    assert_shows,
    removed,
    upserted,
)

pytestmark = pytest.mark.anyio

Reply = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
async def projection(
    client: AsyncQdrantClient, embedder: CountingEmbedder
) -> AsyncIterator[QdrantProjection]:
    made = catalog_qdrant(client, embedder)
    await made.prepare()
    yield made


async def test_the_same_content_is_embedded_once(
    projection: QdrantProjection, embedder: CountingEmbedder
) -> None:
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
    """Gives what it was told to, whatever it is asked for."""

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


class Stale(QdrantProjection):
    """Reads nothing, as if its read were older than everybody's writes."""

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
    anything = [1.0] + [0.0] * (DIMENSION - 1)  # a tombstone's own vector: the nearest of all
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
    with pytest.raises(SchemaBehind, match="dimension 3"):
        await catalog_qdrant(client, embedder).prepare()


async def test_a_missing_collection_stops_the_consumer(
    projection: QdrantProjection, client: AsyncQdrantClient
) -> None:
    await client.delete_collection(COLLECTION)
    for call in (projection.apply([upserted("a", 1)]), projection.count()):
        with pytest.raises(SchemaBehind, match=f"no collection {COLLECTION}"):
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


def scripted(embedder: CountingEmbedder, reply: Reply) -> QdrantProjection:
    """A projection whose server says what the test says: a fake at the HTTP port."""
    client = AsyncQdrantClient(
        url="http://qdrant.test", check_compatibility=False, transport=httpx.MockTransport(reply)
    )
    return catalog_qdrant(client, embedder)


def result(body: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json={"result": body, "status": "ok", "time": 0})


def refusal(status: int) -> httpx.Response:
    """As Qdrant says it."""
    return httpx.Response(status, json={"status": {"error": "Wrong input"}, "time": 0})


def writes(answer: httpx.Response, seen: list[Any] | None = None) -> Reply:
    """A server that has nothing stored, and answers a write so."""

    def reply(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/points/batch"):
            (seen if seen is not None else []).append(json.loads(request.content))
            return answer
        return result(INFO) if request.method == "GET" else result([])

    return reply


PARAMS = {"vectors": {"size": DIMENSION, "distance": "Cosine"}}
HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10}
OPTIMIZER = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1,
    "default_segment_number": 0,
    "flush_interval_sec": 5,
}
INFO = {
    "status": "green",
    "optimizer_status": "ok",
    "segments_count": 1,
    "payload_schema": {},
    "config": {"params": PARAMS, "hnsw_config": HNSW, "optimizer_config": OPTIMIZER},
}


async def test_the_request_carries_the_fence_and_waits(embedder: CountingEmbedder) -> None:
    seen: list[Any] = []
    statuses = [{"operation_id": 1, "status": "completed"}] * 2
    projection = scripted(embedder, writes(result(statuses), seen))
    await projection.apply([upserted("a", 1), upserted("b", 1), removed("c", 2)])
    ((one, two),) = [request["operations"] for request in seen]
    assert [len(operation["upsert"]["points"]) for operation in (one, two)] == [2, 1]
    fences = [operation["upsert"]["update_filter"] for operation in (one, two)]
    assert [fence["must"][0]["key"] for fence in fences] == ["version", "version"]
    assert [fence["must"][0]["range"]["lt"] for fence in fences] == [1, 2]


@pytest.mark.parametrize("status", ["acknowledged", "wait_timeout"])
async def test_only_completed_counts_as_applied(embedder: CountingEmbedder, status: str) -> None:
    reply = writes(result([{"operation_id": 1, "status": status}]))
    with pytest.raises(DependencyDown, match=status):
        await scripted(embedder, reply).apply([upserted("a", 1)])


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 503])
async def test_a_failing_server_is_down(embedder: CountingEmbedder, status: int) -> None:
    reply = writes(httpx.Response(status, text="no"))
    with pytest.raises(DependencyDown, match=str(status)):
        await scripted(embedder, reply).apply([upserted("a", 1)])


async def test_a_server_that_asks_to_come_later_is_down(embedder: CountingEmbedder) -> None:
    reply = writes(httpx.Response(429, headers={"Retry-After": "1"}, text="{}"))
    with pytest.raises(DependencyDown):
        await scripted(embedder, reply).apply([upserted("a", 1)])


async def test_points_that_the_server_refuses_are_rejected(embedder: CountingEmbedder) -> None:
    with pytest.raises(MessageRejected, match="refused-by-store: body: suite/a"):
        await scripted(embedder, writes(refusal(400))).apply([upserted("a", 1)])


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422, 502])
async def test_a_page_of_somebody_else_is_no_refusal(
    embedder: CountingEmbedder, status: int
) -> None:
    reply = writes(httpx.Response(status, text="<html>Your request was blocked</html>"))
    with pytest.raises(DependencyDown, match="blocked"):
        await scripted(embedder, reply).apply([upserted("a", 1)])


async def test_points_refused_by_a_collection_of_another_dimension_are_not_at_fault(
    embedder: CountingEmbedder,
) -> None:
    embedder.dimension = DIMENSION + 1
    projection = scripted(embedder, writes(refusal(400)))
    with pytest.raises(SchemaBehind, match="rebuild"):
        await projection.apply([removed("a", 1)])


async def test_an_old_server_is_refused(embedder: CountingEmbedder) -> None:
    root = {"title": "qdrant", "version": "1.18.3"}
    with pytest.raises(SchemaBehind, match=r"1\.19"):
        await scripted(embedder, lambda _: httpx.Response(200, json=root)).prepare()


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

    await scripted(embedder, reply).prepare()
    assert seen.count(f"PUT /collections/{COLLECTION}") == 1
    assert seen.count(f"PUT /collections/{COLLECTION}/index") == 4


async def test_many_points_come_out_as_they_went_in(projection: QdrantProjection) -> None:
    changes = [upserted(f"i{n}", 1, "same") for n in range(600)]
    await projection.apply(changes)
    shown = await projection.versions([change.stream for change in changes])
    assert shown == {c.stream: Entry(c.stream, 1, c.digest, False) for c in changes}
