"""A consumer over Qdrant: which failures make dead letters, and which must not.

Qdrant is a stand-in: a scripted port over qdrant-client's local mode.
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from consumers.projections.projection import ProjectionReaction
from consumers.projections.testing.conformance import assert_shows
from consumers.projections.testing.sample import catalog_items
from consumers.qdrant.projection import QdrantProjection
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.errors import StoreUnfit
from outbox.kafka import count_unread
from schemas.catalog import COLLECTION, ItemEvent
from tests.kit.load.roles import running
from tests.kit.operations.open_letters import list_dead_letters
from tests.kit.projections.changes import send_changes
from tests.kit.projections.projection_suite import DIMENSION, CountingEmbedder
from tests.kit.projections.qdrant_stores import over_http
from tests.kit.qdrant.server import QdrantServer
from tests.kit.qdrant.twists import (
    BUSY,
    DISK_FULL,
    QUESTIONS,
    WRITES,
    Twist,
    page,
    refusal,
    unfinished,
)
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

sample = catalog_items()
CHANGES = [sample.upserted(name, version) for version in (1, 2) for name in "abcdef"]
HEADS = CHANGES[6:]
WITHIN_SECONDS = 60.0


@pytest.fixture
def server(local_mode: QdrantServer) -> QdrantServer:
    return local_mode


@pytest.fixture
async def projection(server: QdrantServer) -> AsyncIterator[QdrantProjection]:
    async with over_http(server.address, CountingEmbedder()) as projection:
        yield projection


@pytest.fixture
def quick(settings: Settings) -> Settings:
    update = {
        "backoff_first_seconds": 0.01,
        "backoff_longest_seconds": 0.05,
        "unexpected_error_attempts": 2,
    }
    return settings.model_copy(update=update)


def runner_of(quick: Settings, projection: QdrantProjection) -> Runner:
    return Runner(quick, ProjectionReaction(projection))


async def consumed(quick: Settings) -> None:
    """Wait until everything that was sent is applied, or is a dead letter."""

    async def done() -> bool:
        return await count_unread(quick.kafka_url, "aftercommit.qdrant", [ItemEvent.topic]) == 0

    await until(done, WITHIN_SECONDS)


def troubles() -> Iterator[Twist]:
    """One after another; each lasts longer than an unexpected error is retried."""
    yield Twist(DISK_FULL, times=5)
    yield Twist(BUSY, times=2)
    yield Twist(refusal(503, "Not ready"), done=1, times=3)
    for status in (200, 400, 403, 404, 413, 422, 502):
        yield Twist(page(status), times=3)
    for answer in (page(200), page(400), page(404), refusal(400, "?"), refusal(422, "?")):
        yield Twist(answer, path=QUESTIONS, times=3)
    yield Twist(unfinished("acknowledged", 2), times=3)
    yield Twist(unfinished("wait_timeout", 2), done=1, times=3)


async def test_no_outage_makes_a_dead_letter(
    quick: Settings, server: QdrantServer, projection: QdrantProjection
) -> None:
    """Q3, Q4, Q10: the consumer waits, and applies everything once the outage is over."""
    server.twists.extend(troubles())
    async with running(runner_of(quick, projection)):
        await send_changes(quick, CHANGES)
        await consumed(quick)
    assert [twist for twist in server.twists if twist.path == WRITES] == []
    assert await list_dead_letters(quick, 10) == []
    await assert_shows(projection, HEADS)


async def test_only_the_bad_point_becomes_a_dead_letter(
    quick: Settings, server: QdrantServer, projection: QdrantProjection
) -> None:
    """Q5, Q9: later messages of its key wait, and everything else is applied."""
    bad = CHANGES[2]
    server.refuses = lambda point: bool(point["payload"]["digest"] == bad.digest)
    await send_changes(quick, CHANGES[:6])
    async with running(runner_of(quick, projection)):
        await consumed(quick)
        await send_changes(quick, CHANGES[6:])
        await consumed(quick)
    dead, waiting = await list_dead_letters(quick, 10)
    assert (dead["status"], dead["reason"]) == ("dead", "refused-by-store")
    assert bad.stream.key in dead["error"]
    assert (waiting["status"], waiting["stream"]) == ("waiting", dead["stream"])
    await assert_shows(projection, [head for head in HEADS if head.stream != bad.stream])


async def test_a_divergence_parks_its_key(quick: Settings, projection: QdrantProjection) -> None:
    """The projection rejects the second event, which becomes a dead letter."""
    twin = sample.twin("a", 1)
    async with running(runner_of(quick, projection)):
        await send_changes(quick, [*CHANGES[:6], twin, *CHANGES[6:]])
        await consumed(quick)
    dead, waiting = await list_dead_letters(quick, 10)
    assert (dead["status"], dead["reason"]) == ("dead", "diverged")
    assert twin.stream.key in dead["error"]
    assert waiting["status"] == "waiting"
    await assert_shows(projection, [CHANGES[0], *HEADS[1:]])


@pytest.mark.parametrize("dimension", [None, DIMENSION + 1], ids=["none", "another dimension"])
async def test_a_collection_that_is_not_ours_stops_the_consumer_and_loses_nothing(
    quick: Settings, server: QdrantServer, projection: QdrantProjection, dimension: int | None
) -> None:
    """Q9: it goes on where it was, once an operator has repaired what it names."""
    await projection.prepare()
    runner = runner_of(quick, projection)
    with pytest.raises(ExceptionGroup) as caught:
        async with running(runner):
            await send_changes(quick, CHANGES[:6])
            await consumed(quick)
            await server.engine.drop(COLLECTION)
            if dimension is not None:
                await server.engine.create(COLLECTION, dimension)
            await send_changes(quick, CHANGES[6:])
            await until(never, WITHIN_SECONDS)
    assert caught.group_contains(StoreUnfit)
    assert await list_dead_letters(quick, 10) == []
    if dimension is not None:
        await server.engine.drop(COLLECTION)
    async with running(runner_of(quick, projection)):
        await consumed(quick)
    await assert_shows(projection, HEADS)


async def never() -> bool:
    return False
