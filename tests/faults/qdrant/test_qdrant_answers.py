"""Qdrant over HTTP, when its answer is late, lost, incomplete or not an answer at all.

The server is a stand-in: a scripted port over qdrant-client's local mode and, where its wheel is
installed, over Qdrant's own engine.
"""

from collections.abc import Callable

import pytest

from consumers.projections.testing.conformance import assert_shows
from consumers.qdrant.projection import QdrantProjection
from outbox.errors import DependencyDown
from tests.kit.projections.changes import BATCH
from tests.kit.projections.projection_suite import CountingEmbedder
from tests.kit.projections.qdrant_stores import IN_LOCAL_MODE
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


@pytest.mark.parametrize("done", [0, 1, None], ids=["nothing done", "one done", "all done"])
@pytest.mark.parametrize("status", ["acknowledged", "wait_timeout"])
async def test_only_completed_counts_and_what_was_done_meanwhile_is_done_once(
    projection: QdrantProjection, server: QdrantServer, status: str, done: int | None
) -> None:
    """Q3, Q4: any other status is an outage, and repeating the batch is harmless."""
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
    """Q4: a write that was done before the caller gave up is neither done nor embedded again."""
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


@IN_LOCAL_MODE
@pytest.mark.parametrize("kind", TOXICS)
async def test_a_broken_line_is_an_outage_and_what_came_through_is_done_once(
    projection: QdrantProjection, hasty: QdrantProjection, between: Proxy, kind: str
) -> None:
    """Q4: repeating the batch is harmless."""
    toxic, direction = TOXICS[kind]
    with between.toxic(toxic(), direction), pytest.raises(DependencyDown):
        await hasty.apply(BATCH)
    await projection.apply(BATCH)
    await assert_shows(projection, BATCH)


@IN_LOCAL_MODE
async def test_a_line_in_pieces_is_only_slow(projection: QdrantProjection, between: Proxy) -> None:
    with between.toxic(Slicer(7)):
        await projection.apply(BATCH)
        await assert_shows(projection, BATCH)


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


@IN_LOCAL_MODE
@pytest.mark.parametrize("path", [WRITES, QUESTIONS], ids=["a write", "a question"])
@pytest.mark.parametrize("kind", OUTAGES)
async def test_what_is_not_an_answer_to_us_is_an_outage(
    projection: QdrantProjection, server: QdrantServer, kind: str, path: str
) -> None:
    """Q10: no message is at fault, and all are applied once the outage is over."""
    server.twist(Twist(OUTAGES[kind], path=path))
    with pytest.raises(DependencyDown, match="qdrant"):
        await projection.apply(BATCH)
    await projection.apply(BATCH)
    await assert_shows(projection, BATCH)


@IN_LOCAL_MODE
@pytest.mark.parametrize("operations", [0, 1, 4])
async def test_a_write_has_as_many_results_as_operations(
    projection: QdrantProjection, server: QdrantServer, operations: int
) -> None:
    """Q3: any other number says nothing about the rest."""
    server.twist(Twist(unfinished("completed", operations)))
    with pytest.raises(DependencyDown, match=f"{operations} results of 3 writes"):
        await projection.apply(BATCH)
    await projection.apply(BATCH)
    await assert_shows(projection, BATCH)


@IN_LOCAL_MODE
@pytest.mark.parametrize("status", [400, 404, 409, 422])
async def test_a_refused_question_is_an_outage(
    projection: QdrantProjection, server: QdrantServer, status: int
) -> None:
    """Q10: a question has nothing of a message but its key."""
    server.twist(Twist(refusal(status, "Wrong input"), path=QUESTIONS))
    with pytest.raises(DependencyDown, match="a question is refused"):
        await projection.apply(BATCH)
    await projection.apply(BATCH)
    await assert_shows(projection, BATCH)
