"""Qdrant over HTTP, when it answers otherwise than it should.

The server is a stand-in: a scripted port over qdrant-client's local mode and, where its wheel is
installed, over Qdrant's own engine.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from consumers.projections.projection import Change
from consumers.projections.testing.conformance import PROMISES, Promise, assert_shows
from consumers.projections.testing.sample import catalog_items
from consumers.qdrant.projection import QdrantProjection
from outbox.errors import DependencyDown, MessageRejected, SchemaBehind
from schemas.catalog import COLLECTION
from tests.kit.projections.projection_suite import DIMENSION, CountingEmbedder, StumblingEmbedder
from tests.kit.projections.qdrant_stores import ENGINES, over_http, scripted
from tests.kit.proxies.proxy import DOWN, UP, Direction, Proxy
from tests.kit.proxies.toxics import Latency, LimitData, ResetPeer, Slicer, Timeout, Toxic
from tests.kit.qdrant.server import QdrantServer
from tests.kit.qdrant.twists import (
    BUSY,
    DISK_FULL,
    QUESTIONS,
    WRITES,
    Answer,
    Twist,
    page,
    refusal,
    unfinished,
)

pytestmark = pytest.mark.anyio

sample = catalog_items()
BATCH = [sample.upserted("a", 1), sample.upserted("b", 2), sample.removed("c", 3)]
MANY = [sample.upserted(f"i{n:03}", n % 5 + 1) for n in range(200)]


ONCE = pytest.mark.parametrize("server", ENGINES[:1], indirect=True)  # no engine has a part in it


@pytest.fixture
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture(params=ENGINES)
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[QdrantServer]:
    async with scripted(request.param, tmp_path / "engine") as server:
        yield server


@pytest.fixture
async def between(server: QdrantServer) -> AsyncIterator[Proxy]:
    async with Proxy(server.address) as proxy:
        yield proxy


@pytest.fixture
async def projection(between: Proxy, embedder: CountingEmbedder) -> AsyncIterator[QdrantProjection]:
    async with over_http(between.address, embedder) as projection:
        await projection.prepare()
        yield projection


@pytest.fixture
async def hasty(between: Proxy, embedder: CountingEmbedder) -> AsyncIterator[QdrantProjection]:
    """The same, but gives up soon."""
    async with over_http(between.address, embedder, timeout_seconds=1) as hasty:
        yield hasty


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_over_http_a_projection_keeps(promise: Promise, projection: QdrantProjection) -> None:
    """Q1, Q2, I6, I7, I8, I13."""
    await promise(projection, sample)


@pytest.mark.parametrize("done", [0, 1, None], ids=["nothing done", "one done", "all done"])
@pytest.mark.parametrize("status", ["acknowledged", "wait_timeout"])
async def test_only_completed_counts_and_what_was_done_meanwhile_is_done_once(
    projection: QdrantProjection, server: QdrantServer, status: str, done: int | None
) -> None:
    """Q3, Q4."""
    server.twist(Twist(unfinished(status, 3), done))
    with pytest.raises(DependencyDown, match=f"a write is {status}"):
        await projection.apply(BATCH)
    await projection.apply(BATCH)
    await assert_shows(projection, BATCH)


@pytest.mark.parametrize("done", [0, 2, None], ids=["nothing done", "half done", "all done"])
async def test_after_a_silence_the_write_is_repeated(
    projection: QdrantProjection,
    hasty: QdrantProjection,
    server: QdrantServer,
    embedder: CountingEmbedder,
    done: int | None,
) -> None:
    """Q4: what was done before the caller gave up is not done again, nor embedded again."""
    silence = server.twist(Twist(None, done))
    while not silence.happened.is_set():
        with pytest.raises(DependencyDown, match="Timeout"):
            await hasty.apply(BATCH)
    calls = embedder.calls
    await projection.apply(BATCH)
    await assert_shows(projection, BATCH)
    assert embedder.calls == calls + (done == 0)


TOXICS: dict[str, tuple[Callable[[], Toxic], Direction]] = {
    "an answer later than the timeout": (lambda: Latency(60), DOWN),
    "a request later than the timeout": (lambda: Latency(60), UP),
    "a black hole": (Timeout, UP),
    "half an answer": (lambda: LimitData(40), DOWN),
    "half a request": (lambda: LimitData(300), UP),
    "a reset": (ResetPeer, DOWN),
}


@ONCE
@pytest.mark.parametrize("kind", TOXICS)
async def test_a_broken_line_is_an_outage_and_what_came_through_is_done_once(
    projection: QdrantProjection, hasty: QdrantProjection, between: Proxy, kind: str
) -> None:
    """Q4."""
    toxic, direction = TOXICS[kind]
    with between.toxic(toxic(), direction), pytest.raises(DependencyDown):
        await hasty.apply(BATCH)
    await projection.apply(BATCH)
    await assert_shows(projection, BATCH)


@ONCE
async def test_a_line_in_pieces_is_only_slow(projection: QdrantProjection, between: Proxy) -> None:
    with between.toxic(Slicer(7)):
        await projection.apply(BATCH)
        await assert_shows(projection, BATCH)


@pytest.mark.parametrize("done", [0, 2, None], ids=["nothing done", "half done", "all done"])
async def test_a_batch_that_is_refused_once_is_applied_without_a_culprit(
    projection: QdrantProjection, server: QdrantServer, done: int | None
) -> None:
    """Q5."""
    server.twist(Twist(refusal(400, "Wrong input: try again"), done))
    await projection.apply(BATCH)
    await assert_shows(projection, BATCH)


async def test_of_a_refused_batch_only_the_bad_point_is_rejected(
    projection: QdrantProjection, server: QdrantServer
) -> None:
    """Q5, Q9: found in some ten requests, and everything else is applied."""
    bad = MANY[77]
    server.refuses = lambda point: bool(point["payload"]["key"] == bad.stream.key)
    with pytest.raises(MessageRejected, match="refused-by-store") as caught:
        await projection.apply(MANY)
    assert [bad.stream.key in str(each) for each in caught.value.violations] == [True]
    assert len(server.asked(WRITES)) < 20
    await assert_shows(projection, [change for change in MANY if change != bad])


async def test_each_of_several_bad_points_is_named(
    projection: QdrantProjection, server: QdrantServer
) -> None:
    """Q5."""
    bad = [MANY[0], MANY[1], MANY[150]]
    keys = {change.stream.key for change in bad}
    server.refuses = lambda point: point["payload"]["key"] in keys
    with pytest.raises(MessageRejected) as caught:
        await projection.apply(MANY)
    assert {each.rule.split()[0] for each in caught.value.violations} == keys
    await assert_shows(projection, [change for change in MANY if change not in bad])


async def test_a_vector_without_numbers_is_refused_alone(between: Proxy) -> None:
    """Q5, Q9."""
    async with over_http(between.address, StumblingEmbedder("b\n")) as projection:
        await projection.prepare()
        with pytest.raises(MessageRejected, match="suite/b"):
            await projection.apply(BATCH)
        await assert_shows(projection, [BATCH[0], BATCH[2]])


async def test_a_batch_that_is_too_large_is_sent_in_smaller_ones(
    projection: QdrantProjection, server: QdrantServer
) -> None:
    """Q5: nobody is at fault."""
    server.most_bytes = 20_000
    await projection.apply(MANY)
    server.most_bytes *= 1_000
    await assert_shows(projection, MANY)


@ONCE
async def test_a_point_that_is_too_large_for_a_proxy_alone_is_not_at_fault(
    projection: QdrantProjection, server: QdrantServer
) -> None:
    """Q5, Q10: the proxy is."""
    server.twist(Twist(page(413), times=1_000))
    with pytest.raises(DependencyDown, match="before it: 413"):
        await projection.apply(BATCH)


@ONCE
@pytest.mark.parametrize("version", ["1.18.3", "1.9.7", "0.11.0", "unknown", ""])
async def test_an_old_server_is_refused(
    between: Proxy, server: QdrantServer, embedder: CountingEmbedder, version: str
) -> None:
    """Q6."""
    server.version = version
    async with over_http(between.address, embedder) as projection:
        with pytest.raises(SchemaBehind, match=r"upgrade the server to 1\.19"):
            await projection.prepare()
    assert await server.engine.size(COLLECTION) is None


@ONCE
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
    with pytest.raises(SchemaBehind, match=f"has dimension {DIMENSION + 1}"):
        await projection.apply(changes)


async def test_a_missing_collection_stops_the_consumer(
    projection: QdrantProjection, server: QdrantServer
) -> None:
    """Q9."""
    await server.engine.drop(COLLECTION)
    stream = BATCH[0].stream
    for call in (projection.apply(BATCH), projection.versions([stream]), projection.count()):
        with pytest.raises(SchemaBehind, match=f"no collection {COLLECTION}"):
            await call
    with pytest.raises(SchemaBehind):
        await anext(projection.scan())


OUTAGES = {
    "busy": BUSY,
    "busy, not saying until when": refusal(429, "Too many requests"),
    "disk full": DISK_FULL,
    "failing": refusal(500, "Service internal error: channel closed"),
    "starting": refusal(503, "Not ready"),
    "read only": refusal(403, "Forbidden: Write operations are forbidden"),
    "no key": refusal(401, "Must provide an API key"),
    **{f"a page with {status}": page(status) for status in (200, 302, 400, 403, 404, 422, 502)},
    "no JSON": Answer(200, b"{"),
    "another's JSON": Answer(200, b'{"ok": true}'),
    "no result": Answer(200, b'{"result": null, "status": "ok", "time": 0}'),
    "another's refusal": Answer(400, b'{"error": "blocked"}'),
    "another's list": Answer(400, b"[]"),
}


@ONCE
@pytest.mark.parametrize("path", [WRITES, QUESTIONS], ids=["a write", "a question"])
@pytest.mark.parametrize("kind", OUTAGES)
async def test_what_is_not_an_answer_to_us_is_an_outage(
    projection: QdrantProjection, server: QdrantServer, kind: str, path: str
) -> None:
    """Q10: no message is at fault, and once it is over they are applied."""
    server.twist(Twist(OUTAGES[kind], path=path))
    with pytest.raises(DependencyDown, match="qdrant"):
        await projection.apply(BATCH)
    await projection.apply(BATCH)
    await assert_shows(projection, BATCH)


@ONCE
@pytest.mark.parametrize("operations", [0, 1, 4])
async def test_a_write_has_as_many_results_as_operations(
    projection: QdrantProjection, server: QdrantServer, operations: int
) -> None:
    """Q3: less says nothing of the others."""
    server.twist(Twist(unfinished("completed", operations)))
    with pytest.raises(DependencyDown, match=f"{operations} results of 3 writes"):
        await projection.apply(BATCH)
    await projection.apply(BATCH)
    await assert_shows(projection, BATCH)


@ONCE
@pytest.mark.parametrize("status", [400, 404, 409, 422])
async def test_a_refused_question_is_an_outage(
    projection: QdrantProjection, server: QdrantServer, status: int
) -> None:
    """Q10: it holds nothing of a message but its key."""
    server.twist(Twist(refusal(status, "Wrong input"), path=QUESTIONS))
    with pytest.raises(DependencyDown, match="a question is refused"):
        await projection.apply(BATCH)
    await projection.apply(BATCH)
    await assert_shows(projection, BATCH)
