"""The relay: everything that is committed is published, in order per key, and nothing else."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from consumers.settings import Settings
from outbox.cursor.lease import take_lease
from outbox.errors import LeaseLost
from outbox.postgres.connection import connect
from outbox.relay.relay import Relay
from outbox.relay.term import Term
from outbox.status import Status, read_status
from schemas.wire import decode

pytestmark = pytest.mark.anyio

TOPIC = "test.note.events"
PUBLISH = "SELECT outbox.publish('test.note', %s, 'test.noted.v1', '{}')"
WITHIN_SECONDS = 30


class Reader:
    """The records of the topic, as far as they were read."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.records: list[ConsumerRecord[bytes, bytes]] = []

    async def until(self, count: int) -> list[tuple[str, int | None]]:
        """Key and version of all records, once there are `count`."""
        async with asyncio.timeout(WITHIN_SECONDS):
            while len(self.records) < count:
                for records in (await self._consumer.getmany(timeout_ms=500)).values():
                    self.records.extend(records)
        envelopes = [decode(r.key, r.value, r.headers) for r in self.records]
        return [(envelope.key, envelope.sequence) for envelope in envelopes]

    def header(self, name: str) -> list[int]:
        return [int(dict(record.headers)[name]) for record in self.records]


@pytest.fixture
async def reader(settings: Settings) -> AsyncIterator[Reader]:
    """Give a reader without a group, which would take seconds to join; there are 4 partitions."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_url, fetch_max_wait_ms=10, auto_offset_reset="earliest"
    )
    await consumer.start()
    consumer.assign([TopicPartition(TOPIC, partition) for partition in range(4)])
    yield Reader(consumer)
    await consumer.stop()


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    """Run the relay, and stop it in order and in time at the end."""
    task = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        relay.stop()
        async with asyncio.timeout(WITHIN_SECONDS):
            await task


async def publish(connection: psycopg.AsyncConnection, *keys: str) -> None:
    """Publish each key in a transaction of its own."""
    for key in keys:
        await connection.execute(PUBLISH, [key])


async def nothing_pending(connection: psycopg.AsyncConnection) -> Status:
    """Return the status when the last acknowledgement is recorded."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while (status := await read_status(connection)).pending:  # noqa: ASYNC110 - not our event
            await asyncio.sleep(0.01)
    return status


async def test_what_was_rolled_back_is_never_published(
    settings: Settings, reader: Reader, postgres: psycopg.AsyncConnection
) -> None:
    async with running(Relay(settings)):
        for _ in range(3):
            async with postgres.transaction(force_rollback=True):
                await publish(postgres, "k", "ghost")
            await publish(postgres, "k")
        await reader.until(3)
        await nothing_pending(postgres)
        await publish(postgres, "k")
        assert await reader.until(4) == [("k", 1), ("k", 2), ("k", 3), ("k", 4)]


async def test_what_was_committed_while_it_was_away_is_published_at_its_start(
    settings: Settings, reader: Reader, postgres: psycopg.AsyncConnection
) -> None:
    await publish(postgres, "k", "k")
    async with running(Relay(settings)):
        assert await reader.until(2) == [("k", 1), ("k", 2)]
    await publish(postgres, "k", "k")
    assert (await read_status(postgres)).pending == 2
    async with running(Relay(settings)):
        assert await reader.until(4) == [("k", 1), ("k", 2), ("k", 3), ("k", 4)]


async def test_pending_falls_to_nothing(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    await publish(postgres, *"abc")
    before = await read_status(postgres)
    assert (before.pending, before.published, before.relay_leading) == (3, 0, False)
    assert before.oldest_pending_age_seconds > 0
    async with running(Relay(settings, owner="me")):
        after = await nothing_pending(postgres)
        assert (after.published, after.oldest_pending_age_seconds) == (3, 0.0)
        assert (after.relay_leading, after.relay_owner, after.relay_term) == (True, "me", 1)
    stopped = await read_status(postgres)
    assert (stopped.relay_leading, stopped.relay_owner) == (False, None)


# The third acknowledgement waits for the test, so the stop is always in the middle of a cut.
HOLD = """
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (SELECT sum(messages) FROM outbox.deliveries) >= 30 THEN
            PERFORM pg_advisory_xact_lock(7);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER hold AFTER INSERT ON outbox.deliveries
        FOR EACH ROW EXECUTE FUNCTION hold();
    SELECT pg_advisory_lock(7);
"""
HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


async def somebody_waits(connection: psycopg.AsyncConnection) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        while await (await connection.execute(HELD)).fetchone() == (0,):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)


async def test_a_large_cut_survives_a_stop_in_its_middle(
    settings: Settings, reader: Reader, postgres: psycopg.AsyncConnection
) -> None:
    settings = settings.model_copy(update={"page_messages": 10, "lease_seconds": 30.0})
    keys = [f"k{n % 7}" for n in range(95)]
    await publish(postgres, *keys)
    await postgres.execute(HOLD)

    first = Relay(settings)
    async with running(first):
        await somebody_waits(postgres)
        first.stop()
        await postgres.execute("SELECT pg_advisory_unlock(7)")
    row = await postgres.execute("SELECT upto IS NULL, position, published FROM outbox.relay")
    (left, position, published) = await row.fetchone() or ()
    assert (left, published) == (False, 30)
    await reader.until(30)
    assert position == max(reader.header("position"))
    assert (await read_status(postgres)).pending == 65

    await publish(postgres, *keys[:5])  # a later cut
    async with running(Relay(settings)):
        found = await reader.until(100)
        assert (await nothing_pending(postgres)).published == 100
    assert len(found) == len(set(found)) == 100
    for key in set(keys):
        versions = [version for owner, version in found if owner == key]
        assert versions == list(range(1, len(versions) + 1))


async def test_the_pages_of_a_cut_are_in_position_order(
    settings: Settings, reader: Reader, postgres: psycopg.AsyncConnection
) -> None:
    await publish(postgres, *[f"k{n % 7}" for n in range(95)])
    async with running(Relay(settings.model_copy(update={"page_messages": 10}))):
        await reader.until(95)
    by_partition = defaultdict(list)
    for record, position in zip(reader.records, reader.header("position"), strict=True):
        by_partition[record.partition].append((record.offset, position))
    assert len(by_partition) > 1
    for placed in by_partition.values():
        assert sorted(placed) == sorted(placed, key=lambda pair: pair[1])


async def test_one_relay_publishes_and_after_it_the_other(
    settings: Settings, reader: Reader, postgres: psycopg.AsyncConnection
) -> None:
    one, two = Relay(settings, owner="one"), Relay(settings, owner="two")
    leading = asyncio.create_task(one.run())
    await publish(postgres, "k")
    await reader.until(1)
    async with running(two):
        for count in range(2, 22):
            await publish(postgres, "k")
            await reader.until(count)
        assert set(reader.header("term")) == {1}
        assert (await read_status(postgres)).relay_owner == "one"

        one.stop()
        async with asyncio.timeout(WITHIN_SECONDS):
            await leading
        await publish(postgres, "k")
        found = await reader.until(22)
        assert reader.header("term") == [1] * 21 + [2]
        assert (await nothing_pending(postgres)).relay_owner == "two"
    assert found == [("k", version) for version in range(1, 23)]


async def test_a_relay_that_is_told_to_stop_first_publishes_nothing(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    await publish(postgres, "k")
    relay = Relay(settings)
    relay.stop()
    await relay.run()
    assert (await read_status(postgres)).relay_term == 0


MOVED = """
    SELECT relay.owner, relay.published, relay.cursor::text, count(batch)
    FROM outbox.relay LEFT JOIN outbox.deliveries AS batch ON true GROUP BY 1, 2, 3
"""


async def test_a_relay_that_was_replaced_moves_nothing(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    async with await connect(settings) as connection:
        lease = await take_lease(connection, "old", seconds=60.0)
        assert lease is not None
        async with Term(settings, connection, lease) as term:
            await postgres.execute("UPDATE outbox.relay SET owner = 'new', term = term + 1")
            await publish(postgres, "k")
            with pytest.raises(LeaseLost, match="has ended"):
                await term.publish_next_cut(asyncio.Event())
        await lease.release(connection)
    assert await (await postgres.execute(MOVED)).fetchone() == ("new", 0, "3:3:", 0)


DELIVERIES = """
    SELECT partition, first_offset, last_offset, first_position, last_position, messages
    FROM outbox.deliveries ORDER BY partition, first_offset
"""


async def test_deliveries_add_up_to_what_the_topic_holds(
    settings: Settings, reader: Reader, postgres: psycopg.AsyncConnection
) -> None:
    await publish(postgres, *[f"k{n % 7}" for n in range(40)])
    async with running(Relay(settings.model_copy(update={"page_messages": 8}))):
        await reader.until(40)
        for count in range(41, 51):
            await publish(postgres, f"k{count % 7}")
            await reader.until(count)
        await nothing_pending(postgres)
    held = {
        (record.partition, record.offset): position
        for record, position in zip(reader.records, reader.header("position"), strict=True)
    }
    delivered: dict[tuple[int, int], None] = {}
    for partition, first, last, low, high, messages in await fetch(postgres, DELIVERIES):
        assert messages == last - first + 1
        offsets = [(partition, offset) for offset in range(first, last + 1)]
        assert (held[offsets[0]], held[offsets[-1]]) == (low, high)
        assert not delivered.keys() & set(offsets)
        delivered |= dict.fromkeys(offsets)
    assert delivered.keys() == held.keys()
    assert (await read_status(postgres)).published == len(held) == 50


async def fetch(connection: psycopg.AsyncConnection, statement: str) -> list[tuple[int, ...]]:
    return await (await connection.execute(statement.encode())).fetchall()


async def test_a_transaction_that_stayed_open_is_published_when_it_commits(
    settings: Settings, reader: Reader, postgres: psycopg.AsyncConnection
) -> None:
    """Its position is lower than those published meanwhile: the order is that of commits."""
    async with (
        running(Relay(settings)),
        await psycopg.AsyncConnection.connect(settings.libpq_url()) as slow,
    ):
        await publish(slow, "slow")
        await publish(postgres, "quick", "quick")
        assert await reader.until(2) == [("quick", 1), ("quick", 2)]
        await nothing_pending(postgres)
        await slow.commit()
        assert await reader.until(3) == [("quick", 1), ("quick", 2), ("slow", 1)]
        assert (await nothing_pending(postgres)).published == 3
    positions = reader.header("position")
    assert positions[-1] == min(positions)


async def test_a_transaction_that_stays_open_through_a_large_cut_is_published_too(
    settings: Settings, reader: Reader, postgres: psycopg.AsyncConnection
) -> None:
    async with await psycopg.AsyncConnection.connect(settings.libpq_url()) as slow:
        await publish(slow, "slow")
        await publish(postgres, *["quick"] * 25)
        async with running(Relay(settings.model_copy(update={"page_messages": 10}))):
            await reader.until(25)
            await nothing_pending(postgres)
            await slow.commit()
            assert (await reader.until(26))[-1] == ("slow", 1)


async def test_a_savepoints_messages_are_its_transactions(
    settings: Settings, reader: Reader, postgres: psycopg.AsyncConnection
) -> None:
    async with running(Relay(settings)):
        async with postgres.transaction():
            async with postgres.transaction():
                await publish(postgres, "k")
            async with postgres.transaction(force_rollback=True):
                await publish(postgres, "k")
            await publish(postgres, "k")
        assert await reader.until(2) == [("k", 1), ("k", 2)]


@pytest.mark.parametrize("headers", ["5", "null", '{"traceparent": null}', '{"n": 1e400}'])
async def test_odd_headers_of_a_row_from_before_the_limits_stop_nobody(
    settings: Settings, reader: Reader, postgres: psycopg.AsyncConnection, headers: str
) -> None:
    odd = """
        WITH head AS (
            INSERT INTO outbox.streams (aggregatetype, aggregateid, version, position, digest)
            VALUES ('test.note', 'k', 1, nextval('outbox.positions'), '') RETURNING position)
        INSERT INTO outbox.messages (position, id, aggregatetype, aggregateid, type, version, topic,
                                     payload, headers)
        SELECT position, gen_random_uuid(), 'test.note', 'k', 'test.noted.v1', 1,
               'test.note.events', '{}', %s::jsonb FROM head
    """
    async with running(Relay(settings)):
        await postgres.execute(odd, [headers])
        await publish(postgres, "k")
        assert await reader.until(2) == [("k", 1), ("k", 2)]
    assert "traceparent" not in dict(reader.records[0].headers)


async def test_a_message_keeps_the_topic_that_it_was_written_with(
    settings: Settings, reader: Reader, postgres: psycopg.AsyncConnection
) -> None:
    """R17: the topic is a column, so a release that moves a type to another topic is safe."""
    elsewhere = """
        SELECT outbox.publish('test.note', 'k', 'test.noted.v1', '{}', topic => 'test.ours')
    """
    await publish(postgres, "k")
    await postgres.execute(elsewhere)
    await publish(postgres, "k")
    async with running(Relay(settings)):
        assert await reader.until(2) == [("k", 1), ("k", 3)]
        assert (await nothing_pending(postgres)).published == 3
