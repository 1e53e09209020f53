"""PostgreSQL itself is killed, or keeps a transaction that nobody ends: P6, P10, P11."""

import asyncio

import psycopg
import pytest

from consumers.settings import Settings
from outbox.relay.relay import Relay
from outbox.write.database import Database
from tests.kit.load.length import LONG
from tests.kit.load.roles import running
from tests.kit.load.writer import Writer, ended, things
from tests.kit.servers.cluster import Cluster, at, running_cluster
from tests.kit.verdicts.history import Seen, committed, judge, subscribe
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = 50 if LONG else 3
UNITS_BETWEEN = 60
WITHIN_SECONDS = 60.0
# Nothing is flushed for a while but what a commit flushes: the log's tail dies with the server.
LAZY = {"synchronous_commit": "off", "wal_writer_delay": "10s"}


async def killed_again_and_again(cluster: Cluster, writer: Writer, seen: Seen) -> None:
    """Kill it again and again, each time while units commit and messages arrive."""
    for _ in range(KILLS):
        units, messages = writer.done + UNITS_BETWEEN, len(seen.order) + UNITS_BETWEEN // 2

        async def busy(units: int = units, messages: int = messages) -> bool:
            return writer.done >= units and len(seen.order) >= messages

        await until(busy, WITHIN_SECONDS, every_seconds=0.005)
        await cluster.kill()
        await cluster.start()


@pytest.mark.parametrize("values", [{}, LAZY], ids=["durable", "lazy-by-default"])
async def test_kill_9_of_postgresql_leaves_row_and_event_both_or_neither(
    settings: Settings, values: dict[str, str]
) -> None:
    """P10, P11, I1-I4: and nothing is in Kafka that the crash took back, with either setting."""
    async with running_cluster(values) as cluster:
        own, seen = at(settings, cluster.url), Seen()
        async with Database(own, "crash") as database:
            writer = await Writer.prepared(database, cluster.url)
            watching = asyncio.create_task(subscribe(own, seen))
            async with running(Relay(own)):
                writing = asyncio.create_task(writer.run())
                await killed_again_and_again(cluster, writer, seen)
                await ended(writing)
                truth = await committed(cluster.url)

                async def all_seen() -> bool:
                    return truth <= seen.times.keys()

                await until(all_seen, WITHIN_SECONDS)
            await ended(watching)
        verdict = judge(truth, seen)
        assert (verdict.lost, verdict.reordered, verdict.ghosts) == (0, 0, 0), verdict
        assert await things(cluster.url) == dict(sorted(truth)), "the last version of each counts"


PUBLISH = """
    SELECT outbox.publish('faults.thing', %s, 'faults.happened.v1',
                          jsonb_build_object('thing', %s::text))
"""


async def test_an_orphan_prepared_transaction_holds_nobody_back(settings: Settings) -> None:
    """P6: its program is gone, and no session shows it; it is published when it commits."""
    async with running_cluster({"max_prepared_transactions": "2"}) as cluster:
        own, seen = at(settings, cluster.url), Seen()
        watching = asyncio.create_task(subscribe(own, seen))
        async with (
            running(Relay(own)),
            await psycopg.AsyncConnection.connect(cluster.url, autocommit=True) as connection,
        ):
            await connection.execute("BEGIN")
            await connection.execute(PUBLISH, ["orphan", "orphan"])
            await connection.execute("PREPARE TRANSACTION 'orphan'")
            for _ in range(3):
                await connection.execute(PUBLISH, ["other", "other"])
            await until(lambda: saw(seen, 3), WITHIN_SECONDS)
            assert seen.order == [("other", 1), ("other", 2), ("other", 3)]
            await connection.execute("COMMIT PREPARED 'orphan'")
            await until(lambda: saw(seen, 4), WITHIN_SECONDS)
        await ended(watching)
    assert seen.order[-1] == ("orphan", 1)


async def saw(seen: Seen, count: int) -> bool:
    return len(seen.order) >= count
