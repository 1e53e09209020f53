"""P15: a program that is connected to a standby, from the start or after a failover, waits."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from consumers.settings import Settings
from outbox.cursor.database_identity import require_same_identity
from outbox.doctor import Severity
from outbox.doctor.examination import examine_postgres
from outbox.errors import DependencyDown
from outbox.postgres.connection import connect
from outbox.relay.relay import Relay
from outbox.status import read_status
from outbox.write.database import Database
from tests.kit.load.roles import running
from tests.kit.proxies.forwarder import Forwarder
from tests.kit.servers.cluster import Cluster, at, cluster_folder, running_cluster
from tests.kit.verdicts.history import Happened, Seen, subscribe
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 30


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Cluster, Cluster]]:
    """Start a primary and its standby."""
    async with running_cluster() as primary:
        with cluster_folder() as folder:
            standby = Cluster(folder)
            await standby.copy(primary)
            async with standby:
                await standby.caught_up(primary)
                yield primary, standby


async def happen(database: Database) -> None:
    async with database.unit_of_work("test") as uow:
        uow.publish(Happened(thing="k"))
        await uow.commit()


async def test_a_standby_is_refused_by_relay_and_unit_of_work_and_can_be_asked_for_the_status(
    settings: Settings, pair: tuple[Cluster, Cluster]
) -> None:
    there = at(settings, pair[1].url)
    async with await connect(there) as connection, Database(there, "test") as database:
        with pytest.raises(DependencyDown, match="is a standby"):
            await require_same_identity(connection)
        with pytest.raises(DependencyDown, match="read-only transaction"):
            await happen(database)
        assert (await read_status(connection)).halted is None


async def test_doctor_refuses_a_standby_and_is_answered_everything_there(
    settings: Settings, pair: tuple[Cluster, Cluster]
) -> None:
    """P15, D9: in every profile."""
    findings = (await examine_postgres(at(settings, pair[1].url))).findings
    failed = [f.check.name for f in findings if f.severity is Severity.FAILURE]
    assert failed == ["postgres-primary"]
    assert [f for f in findings if "not answered" in f.found] == []


async def test_after_a_change_of_roles_everybody_waits_and_goes_on_when_it_is_undone(
    settings: Settings, pair: tuple[Cluster, Cluster]
) -> None:
    primary, standby = pair
    seen = Seen()
    async with Forwarder(primary.url) as forwarder:
        here = at(settings, forwarder.url)
        subscribing = asyncio.create_task(subscribe(here, seen))
        async with Database(here, "test") as database, running(Relay(here)):
            await happen(database)
            await until(lambda: has_come(seen, 1), WITHIN_SECONDS)
            forwarder.target = standby.url
            await forwarder.cut()
            with pytest.raises(DependencyDown):
                await happen(database)
            before = forwarder.accepted
            await until(lambda: accepted(forwarder, before + 3), WITHIN_SECONDS)
            with pytest.raises(DependencyDown, match="read-only transaction"):
                await happen(database)
            forwarder.target = primary.url
            await forwarder.cut()
            await until(lambda: works(database), WITHIN_SECONDS)
            await until(lambda: has_come(seen, 2), WITHIN_SECONDS)
        subscribing.cancel()
        await asyncio.wait({subscribing})
    assert seen.order == [("k", 1), ("k", 2)]


async def has_come(seen: Seen, count: int) -> bool:
    return len(seen.order) >= count


async def accepted(forwarder: Forwarder, count: int) -> bool:
    return forwarder.accepted >= count


async def works(database: Database) -> bool:
    """Return whether a unit commits; a pool that was cut may offer a dead connection once."""
    try:
        await happen(database)
    except DependencyDown:
        return False
    return True
