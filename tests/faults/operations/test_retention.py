"""Retention under faults: killed anywhere, beside writers, without a broker; D2, P19, P25."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from consumers.settings import Settings
from outbox.operations import Operation
from outbox.relay.relay import Relay
from outbox.retention.retention import Retention
from outbox.runtime.failpoints import Failpoint
from tests.kit.aged import AGE, all_published, fetch, publish, publish_aged, require_latest
from tests.kit.load.kills import KILLS, Killer, reported
from tests.kit.load.length import times
from tests.kit.load.load import commit_events
from tests.kit.load.relaying import nothing_pending
from tests.kit.load.role import Role
from tests.kit.load.roles import running
from tests.kit.past_days import days_there, past_day
from tests.kit.proxies.kafka_proxy import KafkaProxy
from tests.kit.proxies.postgres_proxy import Cut, address_of, url_through
from tests.kit.proxies.statements import StatementProxy
from tests.kit.verdicts.history import Verdict, judge
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection

WITHIN_SECONDS = 60.0
EVERY = times(3, 1, faults=1)  # at which statements it is cut off
OPERATION = Operation("tester", "partitions prune", "", "a test")

FORGET_ALL = """
TRUNCATE outbox.messages, outbox.compacted, outbox.streams, outbox.deliveries, outbox.operations,
         outbox.parked_messages;
ALTER SEQUENCE outbox.positions RESTART;
UPDATE outbox.relay SET cursor = '3:3:', highest_position = 0
"""
OLD_DELIVERIES = """
INSERT INTO outbox.deliveries (term, topic, partition, first_offset, last_offset, first_position,
                               last_position, messages, delivered_at)
SELECT 1, 't', 0, n, n, n, n, 1, now() - make_interval(days => 8 * n)
FROM generate_series(0, 3) AS n
"""
STATE = """
SELECT 'message', aggregateid, version, position FROM outbox.messages
UNION ALL SELECT 'kept', aggregateid, version, position FROM outbox.compacted
UNION ALL SELECT 'delivery', topic, count(*), sum(messages) FROM outbox.deliveries GROUP BY topic
UNION ALL SELECT 'operation', subject, count(*), 0 FROM outbox.operations GROUP BY subject
ORDER BY 1, 2, 3
"""


async def much_to_prune(connection: Connection) -> None:
    """Set up two daily partitions that are due, one that is not, rows of the default partition,
    and compacted messages that may be deleted.
    """
    await connection.execute(FORGET_ALL)
    for ago in (10, 9, 5):
        await past_day(connection, ago)
    await publish_aged(connection, 10, *"aabcd")
    await all_published(connection)
    await Retention(connection, Settings(), today=on(-2)).prune()
    await past_day(connection, 10)
    await publish_aged(connection, 20, "late", "late", "later")
    await publish_aged(connection, 10, *"bbe")
    await publish_aged(connection, 9, *"ef")
    await publish_aged(connection, 5, "f")
    await publish(connection, "a")
    await connection.execute(OLD_DELIVERIES)
    await connection.execute("DELETE FROM outbox.operations")
    await all_published(connection)


def on(days: int) -> date:
    """Return the date so many days from today."""
    return datetime.now(UTC).date() + timedelta(days=days)


async def state(connection: Connection) -> list[object]:
    return [await days_there(connection), await fetch(connection, STATE)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("done", [True, pytest.param(False, marks=pytest.mark.faults_only)])
async def test_cut_off_at_any_statement_and_run_again_it_does_what_it_does_unharmed(
    settings: Settings, postgres: Connection, done: bool
) -> None:
    """D2, P9, P26: whether the statement was done or not, nothing is lost, doubled or left over."""
    few = settings.model_copy(update={"prune_chunk_messages": 4})
    await much_to_prune(postgres)
    await Retention(postgres, few, OPERATION).prune()
    expected = await state(postgres)
    async with StatementProxy(address_of(settings.libpq_url())) as proxy:
        url = url_through(proxy, settings.libpq_url())
        for nth in range(1, 1_000, EVERY):
            await much_to_prune(postgres)
            proxy.cut = Cut(done, nth)
            unharmed = await prune_through(url, few)
            await require_latest(postgres)
            await Retention(postgres, few, OPERATION).prune()
            assert await state(postgres) == expected, f"cut at statement {nth}"
            if unharmed:
                break
    assert 50 < nth < 999, nth
    assert expected[0] == await days_there(postgres) != []


async def prune_through(url: str, settings: Settings) -> bool:
    """Prune through the proxy, and return whether it came to its end."""
    try:
        async with await Connection.connect(url, autocommit=True) as connection:
            pruned = await Retention(connection, settings, OPERATION).prune()
            assert pruned.left == {}
            return True
    except psycopg.OperationalError:
        return False


async def test_two_prunes_at_once_do_what_one_does(
    settings: Settings, postgres: Connection
) -> None:
    """D2: one is of a relay that no longer leads; each partition and each row goes once."""
    few = settings.model_copy(update={"prune_chunk_messages": 4})
    await much_to_prune(postgres)
    await Retention(postgres, few, OPERATION).prune()
    expected = await state(postgres)
    async with await Connection.connect(settings.libpq_url(), autocommit=True) as other:
        for _ in range(5):
            await much_to_prune(postgres)
            both = [Retention(each, few, OPERATION).prune() for each in (postgres, other)]
            found = await asyncio.gather(*both)
            assert sum(len(pruned.dropped) for pruned in found) == 2, found
            assert await state(postgres) == expected
            await require_latest(postgres)


async def test_without_a_broker_no_day_is_dropped_and_with_it_again_each_is(
    settings: Settings, proxy: KafkaProxy, witness: Witness, postgres: Connection
) -> None:
    """P19: the broker is away for longer than is retained; then all is published, and dropped."""
    away = settings.model_copy(update={"kafka_url": proxy.address, "prune_check_seconds": 0.1})
    await past_day(postgres, 9)
    await proxy.down()
    await commit_events(settings, 30)
    await postgres.execute(AGE, [9])
    committed = await said(postgres)

    async def dropped() -> bool:
        return not await days_there(postgres)

    async with running(Relay(away)):
        with pytest.raises(TimeoutError):
            await until(dropped, within_seconds=2)
        pruned = await Retention(postgres, away).prune()
        assert [why.split(":")[0] for why in pruned.left.values()] == ["unpublished"]
        await proxy.up()
        await until(dropped, WITHIN_SECONDS)
    assert await fetch(postgres, "SELECT count(*) FROM outbox.messages") == [(0,)]
    await require_latest(postgres)
    assert (await saw(witness, committed)).at_least_once


async def said(connection: Connection) -> set[tuple[str, int]]:
    """Return the truth by the stream heads, since messages are deleted."""
    heads = "SELECT aggregateid, generate_series(1, version) FROM outbox.streams"
    return {(str(key), int(str(version))) for key, version in await fetch(connection, heads)}


async def saw(witness: Witness, truth: set[tuple[str, int]]) -> Verdict:
    async def all_there() -> bool:
        return truth <= witness.seen.times.keys()

    await until(all_there, WITHIN_SECONDS, 0.02)
    return judge(truth, witness.seen)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_relays_that_are_killed_at_each_drop_are_followed_by_one_that_goes_on(
    settings: Settings, postgres: Connection
) -> None:
    """R1, relay-10: one daily partition is gone, the next one is not, and each keeps its latest."""
    days = KILLS + 1
    for ago in range(10 + days, 10, -1):
        await past_day(postgres, ago)
        await publish_aged(postgres, ago, "a", f"k{ago}")
    await all_published(postgres)
    killer = Killer(Failpoint.PARTITION_DROPPED, settings.model_copy(update={"lease_seconds": 1.0}))
    with reported(killer):
        for left in range(days - 1, 0, -1):
            async with killer.victim("relay") as relay:
                await killer.die(relay)
            assert len(await days_there(postgres)) == left
            await require_latest(postgres)
    await publish(postgres, "a")
    async with Role("relay", settings):
        await until(lambda: none_there(postgres), WITHIN_SECONDS)
        await until(lambda: nothing_pending(postgres), WITHIN_SECONDS)
    await require_latest(postgres)


async def none_there(connection: Connection) -> bool:
    return not await days_there(connection)
