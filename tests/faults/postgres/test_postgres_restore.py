"""P13, P14, F8, I2, I4: after a failover or restore, nothing is published until an operator agrees.

Each test has two real clusters; their numbers are those that PostgreSQL gives them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import psycopg
import pytest

from consumers.settings import Settings
from outbox.audit.audit import audit
from outbox.audit.findings import FindingKind
from outbox.cursor.database_identity import require_same_identity
from outbox.cursor.reconcile import Reconciliation, Remedy, preview_reconcile, reconcile
from outbox.errors import Halted
from outbox.operations import Operation
from outbox.postgres.connection import connect
from outbox.relay.relay import Relay
from outbox.status import read_status
from stack.servers.postgres import ask
from tests.faults.relay.test_order import all_seen
from tests.kit.load.roles import running
from tests.kit.servers.cluster import Cluster, at, cluster_folder, running_cluster
from tests.kit.verdicts.history import PUBLISH, Seen, committed, judge, subscribe, write
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 30


async def say(url: str, *keys: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for key in keys:
            await connection.execute(PUBLISH, [key, key])


async def pending(url: str) -> int:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return (await read_status(connection)).pending


async def halted(settings: Settings) -> str:
    """Return why a relay halts here."""
    async with await connect(settings) as connection:
        with pytest.raises(Halted) as found:
            await require_same_identity(connection)
        assert (await read_status(connection)).halted == str(found.value)
    return str(found.value)


async def repaired(settings: Settings) -> Reconciliation:
    async with await connect(settings) as connection:

        async def nobody_leads() -> bool:
            return not (await read_status(connection)).relay_leading

        await until(nobody_leads, WITHIN_SECONDS)
        expected = await preview_reconcile(connection)
        done = await reconcile(connection, Operation("tester", "reconcile", "relay", "test"))
        await require_same_identity(connection)
    assert done == expected
    return done


@pytest.fixture
async def seen(settings: Settings) -> AsyncIterator[Seen]:
    """Collect what one subscriber sees, from the beginning to the end of the test."""
    seen = Seen()
    task = asyncio.create_task(subscribe(settings, seen))
    yield seen
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def publishing(settings: Settings, seen: Seen) -> None:
    """Relay until all that is committed was seen; the lease is released at the end."""
    async with running(Relay(settings)):
        await all_seen(settings, seen, WITHIN_SECONDS)


IDS = "SELECT array_agg(id::text) FROM outbox.messages WHERE aggregateid = 'k' AND version = 2"


async def test_a_failover_that_lost_its_tail_halts_until_a_person_has_agreed(
    settings: Settings, seen: Seen
) -> None:
    """P13, I3, I13: the lost version was published; it is published again with another id.

    The audit names both: what Kafka has and PostgreSQL has not, and the version with two ids.
    """
    async with running_cluster() as primary:
        with cluster_folder() as folder:
            standby = Cluster(folder)
            await say(primary.url, "k")
            await publishing(at(settings, primary.url), seen)
            await standby.copy(primary)
            async with standby:
                await standby.caught_up(primary)
                await ask(standby.url, "ALTER SYSTEM SET primary_conninfo = ''")
                await ask(standby.url, "SELECT pg_reload_conf()")
                await until(lambda: cut_off(primary), WITHIN_SECONDS)
                await say(primary.url, "k")
                await publishing(at(settings, primary.url), seen)
                lost = await ask(primary.url, IDS)
                await primary.kill()
                await standby.promote()

                after = at(settings, standby.url)
                assert "the timeline was 1 and is 2" in await halted(after)
                await say(standby.url, "k", "k")
                assert (await repaired(after)).remedy is Remedy.FOLLOW
                await publishing(after, seen)
                await until(lambda: nothing_pending(standby.url), WITHIN_SECONDS)
                said_again = await ask(standby.url, IDS)
                async with await connect(after) as connection:
                    found = await audit(connection, after)
    assert seen.order == [("k", 1), ("k", 2), ("k", 3)]
    assert seen.times["k", 2] == 2
    assert lost != said_again
    told = [(each.kind, each.why, [each.id]) for each in found.findings]
    assert told == [
        (FindingKind.ALTERED, "other-id", lost),
        (FindingKind.FOREIGN, "unknown-id", lost),
    ]
    assert all((each.key, each.version) == ("k", 2) for each in found.findings)
    assert [found.findings[0].details["id"]] == said_again
    assert (found.right, found.counts.in_topics) == (False, 3)


async def cut_off(primary: Cluster) -> bool:
    return await ask(primary.url, "SELECT count(*) FROM pg_stat_replication") == 0


async def nothing_pending(url: str) -> bool:
    return await pending(url) == 0


async def test_a_dump_in_a_younger_cluster_loses_doubles_and_reorders_nothing(
    settings: Settings, seen: Seen
) -> None:
    """P14: it was dumped in a large cut; writers begin before the repair, and during it."""
    async with running_cluster() as old, running_cluster() as young:
        before = at(settings.model_copy(update={"page_messages": 50}), old.url)
        await write(before, transactions=1_600, seed=21)
        async with running(Relay(before)):
            await until(lambda: some_published(old.url), WITHIN_SECONDS, 0.001)
        with cluster_folder() as folder:
            await old.dump("aftercommit", folder / "dump.sql")
            await young.restore("restored", folder / "dump.sql")
        after = at(settings, young.database("restored"))
        url = after.libpq_url()
        assert await pending(url) > 0
        assert "outbox reconcile" in await halted(after)
        async with await connect(after) as connection:
            with pytest.raises(Halted, match="outbox reconcile"):  # nobody can tell as yet
                await audit(connection, after)
        await write(after, transactions=400, seed=22)
        _, done = await asyncio.gather(
            write(after, transactions=400, seed=23), repaired_eventually(after)
        )
        assert done.remedy is Remedy.RENUMBER
        assert min(done.published, done.to_publish) > 0
        await publishing(after, seen)
        verdict = judge(await committed(url), seen)
        async with await connect(after) as connection:
            found = await audit(connection, after)
    assert (found.right, found.findings) == (True, [])
    assert (verdict.lost, verdict.reordered, verdict.ghosts) == (0, 0, 0)
    assert seen.copies == 0  # the relay before had recorded all that it had sent


async def some_published(url: str) -> bool:
    return bool(await ask(url, "SELECT published > 200 FROM outbox.relay"))


async def repaired_eventually(settings: Settings) -> Reconciliation:
    async with await connect(settings) as connection:
        return await reconcile(connection, Operation("tester", "reconcile", "relay", "test"))


async def test_a_dump_restored_beside_the_original_is_told_from_it(
    settings: Settings, seen: Seen
) -> None:
    """F8: it has the same server, timeline and transaction ids; only the rows are copies."""
    async with running_cluster() as cluster:
        here = at(settings, cluster.url)
        await say(cluster.url, "a", "b")
        await publishing(here, seen)
        await say(cluster.url, "a")
        with cluster_folder() as folder:
            await cluster.dump("aftercommit", folder / "dump.sql")
            await cluster.restore("restored", folder / "dump.sql")
        after = at(settings, cluster.database("restored"))
        why = await halted(after)
        assert "the outbox was copied here" in why
        assert (await repaired(after)).to_publish == 1
        await publishing(after, seen)
    assert judge({("a", 1), ("a", 2), ("b", 1)}, seen).right


async def test_a_copied_data_folder_is_the_same_history(settings: Settings, seen: Seen) -> None:
    """A base backup recovers by itself: the cursor and the rows come from the same WAL."""
    async with running_cluster() as cluster:
        await say(cluster.url, "a")
        await publishing(at(settings, cluster.url), seen)
        with cluster_folder() as folder:
            copy = Cluster(folder)
            await copy.copy(cluster)
            await asyncio.to_thread((copy.data / "standby.signal").unlink)
            async with copy, await connect(at(settings, copy.url)) as connection:
                await require_same_identity(connection)
