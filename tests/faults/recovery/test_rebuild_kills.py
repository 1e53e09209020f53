"""`kill -9` of a rebuild at each of its failpoints, while writers and the live consumer go on."""

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from consumers.assembly import catalog_vectors
from consumers.projections.generations import LiveProjection
from consumers.rebuild.journal import Phase
from consumers.rebuild.rebuild import rebuild_through_outages
from consumers.settings import Settings
from outbox.relay.relay import Relay
from outbox.runtime.failpoints import Failpoint
from tests.faults.relay.test_failpoint_kills import points
from tests.kit.load.kills import KILLS, Killer, reported
from tests.kit.load.roles import projecting, running
from tests.kit.projections.qdrant_stores import scripted
from tests.kit.projections.rebuilding import asked, in_step, live_number, publish_items, writing

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(900)]

ITEMS = (KILLS + 2) * 100  # each process brings one page over before it is killed
RARE = (Failpoint.REBUILD_OPENED, Failpoint.KEYS_BROUGHT)
POINTS = [
    pytest.param(each, marks=pytest.mark.faults_only) if each in RARE else each
    for each in points("rebuild")
]
START = ("start", "--projection", "qdrant", "--reason", "a test")


@pytest.fixture
async def store(
    settings: Settings, tmp_path: Path, postgres: psycopg.AsyncConnection
) -> AsyncIterator[tuple[Settings, LiveProjection]]:
    """A store over HTTP that holds many items; its consumer and the relay are running."""
    async with scripted("local mode", tmp_path / "engine") as server:
        own = settings.model_copy(update={"qdrant_url": f"http://{server.address}"})
        own = own.model_copy(update={"drift_patience_seconds": 60.0})
        async with catalog_vectors(own) as live:
            await live.prepare()
            await publish_items(postgres, "still", ITEMS)
            async with running(Relay(own), projecting(own, live)):
                await in_step(postgres, live)
                yield own, live


@pytest.mark.parametrize("point", POINTS)
async def test_a_rebuild_that_is_killed_there_goes_on_to_parity(
    point: Failpoint, store: tuple[Settings, LiveProjection], postgres: psycopg.AsyncConnection
) -> None:
    """Q11: the same command goes on; Qdrant is a stand-in behind a scripted server."""
    settings, live = store
    killer = Killer(point, settings)
    with reported(killer):
        async with writing(settings):
            await kill_rebuilds(killer)
            await has_switched(live, point is Failpoint.SWITCHED)
            row = await rebuild_through_outages(settings, live.generations, asked())
    assert (row.phase, row.generation, row.differing) == (Phase.DONE, 2, 0)
    assert await live_number(live) == 2
    await in_step(postgres, live)


async def kill_rebuilds(killer: Killer) -> None:
    while killer.kills < KILLS:
        async with killer.victim("rebuild", *START) as victim:
            await killer.die(victim)


async def has_switched(live: LiveProjection, switched: bool) -> None:
    assert await live_number(live) == (2 if switched else 1)
