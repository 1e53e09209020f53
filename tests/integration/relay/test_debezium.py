"""Debezium can take over from our relay: of the same row it makes the same record.

The first test compares what our relay sent with what the outbox event router documents for the
configuration in deploy/debezium; Debezium does not run there. The second runs it: Kafka Connect
with the real connector and router, beside our relay, on the same table and into the same topics.

What neither proves: that a takeover loses nothing (deploy/debezium/README.md says how to make one),
or that other versions of Debezium do the same.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr

from consumers.settings import Settings
from outbox.kafka import ConsumerRecord, Subscriber, create_topics
from outbox.postgres.migrate import migrate
from outbox.relay.relay import Relay
from outbox.write.database import Database
from schemas.envelope import Envelope
from schemas.wire import decode
from services.migrations import all_migrations
from stack.process.folder import run_folder
from stack.servers.kafka import POM as KAFKA_POM
from stack.servers.kafka import KafkaServer
from stack.servers.postgres import PostgresServer, ask
from stack.settings import StackSettings
from tests.kit.load.roles import running
from tests.kit.servers.debezium import (
    CONTEXT,
    POM,
    Routed,
    Row,
    connect,
    connector,
    routed,
    statements,
)
from tests.kit.servers.jars import required_jars
from tests.kit.verdicts.history import TOPIC, Happened

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 60.0
NOTES = "test.note.events"
TOPICS = (TOPIC, NOTES)
SQL = (
    """SELECT outbox.publish('test.note', 'é ✈', 'test.noted.v1',
                             '{"text": "Zürich\\n \\"x\\""}')""",
    """SELECT outbox.publish('test.note', 'é ✈', 'test.noted.v1', '{}',
                             headers => '{"correlationid": "c-1", "traceparent": "00-a-b-01"}')""",
    "SELECT outbox.publish('test.note', 'é ✈', 'test.gone.v1', NULL, deletes => true)",
    # A time at a full second, in a day that has no partition.
    """INSERT INTO outbox.messages (position, id, aggregatetype, aggregateid, type, version, topic,
                                    payload, created_at)
       VALUES (1, gen_random_uuid(), 'test.note', 'old', 'test.noted.v1', 1, 'test.note.events',
               '[]', '2020-02-29 12:00:00+00')""",
)
LATE = """
INSERT INTO outbox.messages (position, id, aggregatetype, aggregateid, type, version, topic,
                             created_at)
VALUES (1, gen_random_uuid(), 'test.note', 'late', 'test.noted.v1', 1, 'test.note.events',
        now() + interval '4 days')
"""
# Every column as the text that PostgreSQL prints; the time as the connector renders it.
ROWS = """
SELECT id::text, aggregatetype, aggregateid, type, version::text, topic, payload, position::text,
       headers::text, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
           AS created_at
FROM outbox.messages ORDER BY position
"""
# The attributes that only one of the two has, and those that they write differently.
ONLY_OURS = {"term", "correlationid", "causationid", "traceparent"}
ONLY_THEIRS = {"headers"}
IN_OTHER_WORDS = {"ce_source", "ce_sequence"}


async def publish(url: str) -> list[Row]:
    """Publish messages by both kinds of writers, and return the rows that they left."""
    settings = Settings(postgres_url=SecretStr(url))
    cause = Envelope("cause-1", "/test", "faults.do.v1", "k", b"{}", correlation_id="c-2")
    async with (
        Database(settings, "test") as database,
        database.unit_of_work("publish", cause=cause) as uow,
    ):
        for thing in ("one", "two", "one"):
            uow.publish(Happened(thing=thing))
        await uow.commit()
    async with await psycopg.AsyncConnection.connect(
        url, autocommit=True, row_factory=dict_row
    ) as connection:
        for statement in SQL:
            await connection.execute(statement.encode())
        return list(await (await connection.execute(ROWS)).fetchall())


async def received(kafka_url: str, count: int) -> list[ConsumerRecord]:
    """Return so many records of the topics, in the order of each partition."""
    found: list[ConsumerRecord] = []
    async with Subscriber(kafka_url, "debezium", TOPICS, 6_000, 1 << 20) as subscriber:
        async with asyncio.timeout(WITHIN_SECONDS):
            while len(found) < count:
                for records in (await subscriber.receive(1_000, 100)).values():
                    found += records
    return found


def as_routed(record: ConsumerRecord) -> Routed:
    """Return it in the shape of the reference, without what Debezium says of itself."""
    names = [name for name, _ in record.headers]
    assert len(names) == len(set(names)), "a header occurs twice"
    headers = {name: raw for name, raw in record.headers if not name.startswith(CONTEXT)}
    assert record.key is not None
    return Routed(record.topic, record.key, record.value, headers)


def require_same(ours: Routed, theirs: Routed) -> None:
    """Require the same record, except for exactly the attributes that are named above."""
    assert (ours.topic, ours.key, ours.value) == (theirs.topic, theirs.key, theirs.value)
    names, others = ours.headers.keys(), theirs.headers.keys()
    assert {"term"} <= names - others <= ONLY_OURS
    assert others - names == ONLY_THEIRS
    differ = {each for each in names & others if ours.headers[each] != theirs.headers[each]}
    assert differ == IN_OTHER_WORDS
    assert read(theirs) == replace(
        read(ours),
        source=theirs.headers["ce_source"].decode(),
        term=None,
        correlation_id=None,
        causation_id=None,
        traceparent=None,
    )


def read(record: Routed) -> Envelope:
    """Return what a consumer of ours reads."""
    return decode(record.key, record.value, record.headers.items())


def by_id(records: Iterable[Routed]) -> dict[str, Routed]:
    return {read(each).id: each for each in records}


async def test_our_record_is_the_one_that_the_router_documents_for_the_same_row(
    settings: Settings,
) -> None:
    """That is key, value, topic and headers, for all kinds of payloads and for a tombstone."""
    rows = await publish(settings.libpq_url())
    async with running(Relay(settings)):
        ours = by_id(map(as_routed, await received(settings.kafka_url, len(rows))))
    assert len(ours) == len(rows)
    for row in rows:
        require_same(ours[str(row["id"])], routed(row, connector()))


async def test_late_messages_can_still_be_deleted_once_they_are_published(
    postgres: psycopg.AsyncConnection,
) -> None:
    """A publication of deletes would refuse that, because the table has no replica identity."""
    (publication,) = (each for each in statements() if "CREATE PUBLICATION" in each)
    await postgres.execute(publication.encode())
    await postgres.execute(LATE.encode())
    deleted = await postgres.execute("DELETE FROM outbox.messages_default")
    assert deleted.rowcount == 1


@asynccontextmanager
async def ground(folder: Path, stack: StackSettings) -> AsyncIterator[Settings]:
    """Start PostgreSQL with a logical log and Kafka with the topics; give a relay's settings."""
    async with (
        PostgresServer(folder, stack, durable=False) as postgres,
        KafkaServer(folder, stack) as kafka,
    ):
        await ask(postgres.url, "ALTER SYSTEM SET wal_level = 'logical'")
        await postgres.stop()
        await postgres.start()
        await migrate(postgres.url, all_migrations())
        await create_topics(kafka.url, TOPICS, 4)
        for statement in statements():
            await ask(postgres.url, statement)
        yield Settings(postgres_url=SecretStr(postgres.url), kafka_url=kafka.url)


async def test_debezium_itself_makes_these_records_in_the_same_partitions_and_order() -> None:
    """It also proves that the reference of the other test is what Debezium does."""
    stack = StackSettings()
    jars = await required_jars(POM, stack)
    await required_jars(KAFKA_POM, stack)
    with run_folder(None, keep=False) as folder:
        async with ground(folder, stack) as settings:
            rows = await publish(settings.libpq_url())
            relay = running(Relay(settings))
            worker = connect(folder, jars, settings.libpq_url(), settings.kafka_url, stack)
            async with relay, worker:
                records = await received(settings.kafka_url, 2 * len(rows))
    ours = [record for record in records if "term" in dict(record.headers)]
    theirs = [record for record in records if "term" not in dict(record.headers)]
    assert len(ours) == len(theirs) == len(rows)
    assert sorted(map(place, ours)) == sorted(map(place, theirs))
    assert per_key(ours) == per_key(theirs)
    made, relayed = by_id(map(as_routed, theirs)), by_id(map(as_routed, ours))
    for row in rows:
        theirs_of_row = made[str(row["id"])]
        assert theirs_of_row == routed(row, connector())
        require_same(relayed[str(row["id"])], theirs_of_row)


def place(record: ConsumerRecord) -> tuple[str, int, bytes | None]:
    return record.topic, record.partition, record.key


def per_key(records: Iterable[ConsumerRecord]) -> dict[bytes | None, list[int | None]]:
    """Return the versions of each key, in the order of arrival."""
    versions: dict[bytes | None, list[int | None]] = {}
    for record in records:
        versions.setdefault(record.key, []).append(read(as_routed(record)).sequence)
    return versions
