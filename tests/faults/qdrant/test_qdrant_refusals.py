"""Qdrant over HTTP, when it refuses a batch: only the point at fault is rejected.

The server is a stand-in: a scripted port over qdrant-client's local mode and, where its wheel is
installed, over Qdrant's own engine.
"""

import pytest

from consumers.projections.testing.conformance import assert_shows
from consumers.qdrant.projection import QdrantProjection
from outbox.errors import DependencyDown, MessageRejected
from tests.kit.projections.changes import BATCH, MANY
from tests.kit.projections.projection_suite import StumblingEmbedder
from tests.kit.projections.qdrant_stores import IN_LOCAL_MODE, over_http
from tests.kit.proxies.proxy import Proxy
from tests.kit.qdrant.server import QdrantServer
from tests.kit.qdrant.twists import WRITES, Twist, page, refusal

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("done", [0, 2, None], ids=["nothing done", "half done", "all done"])
async def test_a_batch_that_is_refused_once_is_applied_without_a_culprit(
    projection: QdrantProjection, server: QdrantServer, done: int | None
) -> None:
    """Q5: the halves succeed, although some operations were done before."""
    server.twist(Twist(refusal(400, "Wrong input: try again"), done))
    await projection.apply(BATCH)
    await assert_shows(projection, BATCH)


async def test_of_a_refused_batch_only_the_bad_point_is_rejected(
    projection: QdrantProjection, server: QdrantServer
) -> None:
    """Q5, Q9: it is found in some ten requests, and everything else is applied."""
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
    """Q5: everything else of the batch is applied."""
    bad = [MANY[0], MANY[1], MANY[150]]
    keys = {change.stream.key for change in bad}
    server.refuses = lambda point: point["payload"]["key"] in keys
    with pytest.raises(MessageRejected) as caught:
        await projection.apply(MANY)
    assert {each.rule.split()[0] for each in caught.value.violations} == keys
    await assert_shows(projection, [change for change in MANY if change not in bad])


async def test_a_vector_without_numbers_is_refused_alone(between: Proxy) -> None:
    """Q5, Q9: everything else of the batch is applied."""
    async with over_http(between.address, StumblingEmbedder("b\n")) as projection:
        await projection.prepare()
        with pytest.raises(MessageRejected, match="suite/b"):
            await projection.apply(BATCH)
        await assert_shows(projection, [BATCH[0], BATCH[2]])


async def test_a_batch_that_is_too_large_is_sent_in_smaller_ones(
    projection: QdrantProjection, server: QdrantServer
) -> None:
    """Q5: no message is at fault."""
    server.most_bytes = 20_000
    await projection.apply(MANY)
    server.most_bytes *= 1_000
    await assert_shows(projection, MANY)


@IN_LOCAL_MODE
async def test_a_point_that_is_too_large_for_a_proxy_alone_is_not_at_fault(
    projection: QdrantProjection, server: QdrantServer
) -> None:
    """Q5, Q10: it is the proxy's limit, and so an outage."""
    server.twist(Twist(page(413), times=1_000))
    with pytest.raises(DependencyDown, match="before it: 413"):
        await projection.apply(BATCH)
