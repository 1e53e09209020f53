"""M05, M06 and M14, each caught beside the same test without it.

Qdrant is a stand-in: local mode, behind a scripted port where a race or an answer matters.
"""

from collections.abc import AsyncIterator

import pytest
from qdrant_client import AsyncQdrantClient

from consumers.mappings.catalog import catalog_qdrant
from consumers.projections.projection import StreamKey
from consumers.projections.testing import conformance
from consumers.projections.testing.conformance import BrokenPromise, Promise
from consumers.projections.testing.sample import catalog_items
from consumers.qdrant.projection import QdrantProjection
from tests.kit.planted.planted_stores import no_tombstone, no_version_guard, nothing_waited_for
from tests.kit.projections.projection_suite import CountingEmbedder
from tests.kit.projections.qdrant_stores import over_http
from tests.kit.qdrant.server import QdrantServer

pytestmark = pytest.mark.anyio

sample = catalog_items()
BATCH = [sample.upserted("a", 1), sample.upserted("b", 2), sample.removed("c", 3)]


@pytest.fixture
async def remote(local_mode: QdrantServer) -> AsyncIterator[QdrantProjection]:
    async with over_http(local_mode.address, CountingEmbedder()) as projection:
        await projection.prepare()
        yield projection


@pytest.fixture
async def local() -> AsyncIterator[QdrantProjection]:
    client = AsyncQdrantClient(location=":memory:")
    projection = catalog_qdrant(client, CountingEmbedder())
    await projection.prepare()
    yield projection
    await client.close()


async def test_writers_that_race_end_at_the_highest_version(remote: QdrantProjection) -> None:
    """Q1."""
    await conformance.concurrent_writers_end_at_the_highest(remote, sample)


async def test_a_write_without_a_version_guard_is_caught_regressing(
    remote: QdrantProjection,
) -> None:
    """M05, Q1: the writer that has read first writes last."""
    with no_version_guard(), pytest.raises(BrokenPromise, match="is wrong in"):
        await conformance.concurrent_writers_end_at_the_highest(remote, sample)


DELETES = pytest.mark.parametrize(
    "promise",
    [
        conformance.a_late_write_does_not_resurrect,
        conformance.a_delete_can_come_first_and_be_outlived,
    ],
    ids=lambda promise: promise.__name__,
)


@DELETES
async def test_what_is_deleted_stays_deleted(local: QdrantProjection, promise: Promise) -> None:
    """Q2."""
    await promise(local, sample)


@DELETES
async def test_a_delete_without_a_tombstone_is_caught_resurrecting(
    local: QdrantProjection, promise: Promise
) -> None:
    """M06, Q2."""
    with no_tombstone(), pytest.raises(BrokenPromise, match="is wrong in"):
        await promise(local, sample)


async def lost(projection: QdrantProjection, server: QdrantServer) -> set[StreamKey]:
    """Return what counts as applied and is not there, once the server has lost what it may lose."""
    await projection.apply(BATCH)
    server.lose_unwaited_batches()
    streams = [change.stream for change in BATCH]
    return set(streams) - set(await projection.versions(streams))


async def test_what_counts_as_applied_is_there(
    remote: QdrantProjection, local_mode: QdrantServer
) -> None:
    """Q3."""
    assert await lost(remote, local_mode) == set()


async def test_a_write_that_is_not_waited_for_is_caught_losing(
    remote: QdrantProjection, local_mode: QdrantServer
) -> None:
    """M14, Q3."""
    with nothing_waited_for():
        assert await lost(remote, local_mode) == {change.stream for change in BATCH}
