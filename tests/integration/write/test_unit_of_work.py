"""A unit of work: rows, messages and receipt are kept together or not at all, in order per key."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, ClassVar

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from outbox.errors import AlreadyHandled, Contention, MessageRejected
from outbox.settings import Settings
from outbox.write.database import Database
from outbox.write.publishing import Published
from outbox.write.unit_of_work import UnitOfWork
from schemas.envelope import Envelope, Event, digest
from schemas.limits import PAYLOAD_BYTES as MAX_PAYLOAD_BYTES
from schemas.reply import CommandSucceeded

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection[Any]


class Noted(Event):
    type: ClassVar[str] = "test.noted.v1"
    topic: ClassVar[str] = "test.note.events"
    aggregate: ClassVar[str] = "test.note"

    note: str
    text: str = ""

    def key(self) -> str:
        return self.note


class Erased(Noted):
    type: ClassVar[str] = "test.erased.v1"
    deletes: ClassVar[bool] = True


class Long(Noted):
    more: tuple[str, ...]


class Done(CommandSucceeded):
    type: ClassVar[str] = "test.done.v1"
    topic: ClassVar[str] = "test.command.events"
    aggregate: ClassVar[str] = "test.command"


class UndoneError(Exception):
    """This is raised to roll something back."""


CAUSE = Envelope("m-1", "/test", "test.do.v1", "k", b'{"a":1}', correlation_id="c-9")


def done(result: dict[str, Any]) -> Done:
    return Done(command_id=CAUSE.id, command_type=CAUSE.type, subject=CAUSE.key, result=result)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with Database(Settings(postgres_url=SecretStr(postgres_url)), "tests") as database:
        yield database


async def fetch(connection: Connection, statement: str) -> list[Any]:
    return await (await connection.execute(statement.encode())).fetchall()


COUNT = "SELECT count(*) FROM outbox."


async def stored(connection: Connection) -> dict[str, int]:
    """Return how many rows the outbox has of each kind."""
    return {table: (await fetch(connection, COUNT + table))[0][0] for table in NOTHING}


NOTHING = {"messages": 0, "streams": 0, "receipts": 0}


async def messages(connection: Connection) -> list[tuple[str, int, str]]:
    """Return key, version and type of every message, by position."""
    statement = "SELECT aggregateid, version, type FROM outbox.messages ORDER BY position"
    return await fetch(connection, statement)


async def note(database: Database, *events: Event) -> list[Published]:
    async with database.unit_of_work("note") as uow:
        for event in events:
            uow.publish(event)
        return await uow.commit()


# Rows, messages and receipt are kept together or not at all.


async def test_nothing_is_kept_without_commit(database: Database, postgres: Connection) -> None:
    async with database.unit_of_work("test", cause=CAUSE) as uow:
        await uow.connection.execute(text("CREATE TABLE kept (x int)"))
        uow.publish(Noted(note="k"))
    assert await stored(postgres) == NOTHING
    assert await fetch(postgres, "SELECT to_regclass('kept')") == [(None,)]


async def test_nothing_is_kept_when_the_block_raises(
    database: Database, postgres: Connection
) -> None:
    with pytest.raises(UndoneError):
        async with database.unit_of_work("test", cause=CAUSE) as uow:
            uow.publish(Noted(note="k"))
            raise UndoneError
    assert await stored(postgres) == NOTHING


async def test_nothing_is_kept_when_the_task_is_cancelled(
    database: Database, postgres: Connection
) -> None:
    began = asyncio.Event()

    async def work() -> None:
        async with database.unit_of_work("test", cause=CAUSE) as uow:
            uow.publish(Noted(note="k"))
            began.set()
            await asyncio.Event().wait()
            await uow.commit()

    task = asyncio.create_task(work())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await stored(postgres) == NOTHING
    await note(database, Noted(note="k"))  # the connection can be used again


async def test_rows_message_and_receipt_are_kept_together(
    database: Database, postgres: Connection
) -> None:
    async with database.unit_of_work("test", cause=CAUSE) as uow:
        await uow.connection.execute(text("CREATE TABLE kept (x int)"))
        uow.publish(Noted(note="k"))
        await uow.commit()
    assert await stored(postgres) == {"messages": 1, "streams": 1, "receipts": 1}
    assert await fetch(postgres, "SELECT count(*) FROM kept") == [(0,)]


async def test_a_message_says_what_caused_it(database: Database, postgres: Connection) -> None:
    async with database.unit_of_work("test", cause=CAUSE) as uow:
        uow.publish(Noted(note="k"))
        await uow.commit()
    await note(database, Noted(note="k"))
    headers = await fetch(postgres, "SELECT headers FROM outbox.messages ORDER BY position")
    assert headers == [({"correlationid": "c-9", "causationid": "m-1"},), ({},)]


# Versions and positions.


async def test_versions_of_a_key_have_no_gap_whatever_was_rolled_back(
    database: Database, postgres: Connection
) -> None:
    for number in range(6):
        with suppress(UndoneError):
            async with database.unit_of_work("test") as uow:
                uow.publish(Noted(note="k"))
                if number % 2:
                    raise UndoneError
                await uow.commit()
    assert [(key, version) for key, version, _ in await messages(postgres)] == [
        ("k", 1),
        ("k", 2),
        ("k", 3),
    ]


async def test_messages_of_one_unit_rise_in_the_order_of_publish(
    database: Database, postgres: Connection
) -> None:
    await note(database, Noted(note="a"))
    published = await note(
        database, Noted(note="a"), Noted(note="b"), Erased(note="a"), Noted(note="b")
    )
    versions = [(p.key, p.version) for p in sorted(published, key=lambda p: p.position)]
    assert [found for found in versions if found[0] == "a"] == [("a", 2), ("a", 3)]
    assert [found for found in versions if found[0] == "b"] == [("b", 1), ("b", 2)]
    assert [m for m in await messages(postgres) if m[0] == "a"] == [
        ("a", 1, Noted.type),
        ("a", 2, Noted.type),
        ("a", 3, Erased.type),
    ]


async def test_eight_writers_leave_versions_without_a_gap_in_position_order(
    database: Database, postgres: Connection
) -> None:
    async def write(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(12):
            keys = [rng.choice("abcd") for _ in range(rng.randrange(1, 5))]
            async with database.unit_of_work("test") as uow:
                for key in keys:
                    uow.publish(Noted(note=key))
                if rng.random() < 0.8:
                    await uow.commit()

    await asyncio.gather(*map(write, range(8)))
    found = await messages(postgres)
    for key in "abcd":
        versions = [version for owner, version, _ in found if owner == key]
        assert versions == list(range(1, len(versions) + 1))
    positions = await fetch(
        postgres, "SELECT count(*), count(DISTINCT position) FROM outbox.messages"
    )
    assert positions[0][0] == positions[0][1]


HEADS = """
    SELECT head.version = message.version AND head.position = message.position
           AND head.digest = outbox.digest(message.payload)
           AND head.deleted = (message.type = 'test.erased.v1')
    FROM outbox.streams AS head JOIN LATERAL (
        SELECT * FROM outbox.messages
        WHERE (aggregatetype, aggregateid) = (head.aggregatetype, head.aggregateid)
        ORDER BY version DESC LIMIT 1) AS message ON true
"""


async def test_a_head_is_its_keys_latest_message(database: Database, postgres: Connection) -> None:
    await note(database, Noted(note="a", text="1"), Noted(note="b"), Noted(note="a", text="2"))
    await note(database, Erased(note="a"), Noted(note="c"), Erased(note="c"))
    await note(database, Noted(note="c", text="back again"))
    assert await fetch(postgres, HEADS) == [(True,)] * 3
    heads = "SELECT aggregateid, version, deleted FROM outbox.streams ORDER BY 1"
    assert await fetch(postgres, heads) == [("a", 3, True), ("b", 1, False), ("c", 3, False)]


async def test_keys_of_two_aggregates_are_apart(database: Database, postgres: Connection) -> None:
    reply = Done(command_id="1", command_type="t", subject="k")
    await note(database, Noted(note="k"), reply)
    heads = "SELECT aggregatetype, version FROM outbox.streams ORDER BY 1"
    assert await fetch(postgres, heads) == [("test.command", 1), ("test.note", 1)]


# Savepoints.


async def test_a_savepoint_that_fails_forgets_its_rows_and_messages(
    database: Database, postgres: Connection
) -> None:
    async with database.unit_of_work("test") as uow:
        await uow.connection.execute(text("CREATE TABLE kept (x int)"))
        uow.publish(Noted(note="before"))
        with suppress(UndoneError):
            async with uow.savepoint():
                await uow.connection.execute(text("INSERT INTO kept VALUES (1)"))
                uow.publish(Noted(note="inside"))
                raise UndoneError
        async with uow.savepoint():
            uow.publish(Noted(note="second"))
        uow.publish(Noted(note="after"))
        await uow.commit()
    keys = [key for key, *_ in await messages(postgres)]
    assert sorted(keys) == ["after", "before", "second"]
    assert await fetch(postgres, "SELECT count(*) FROM kept") == [(0,)]


async def test_a_unit_goes_on_after_an_error_inside_a_savepoint(
    database: Database, postgres: Connection
) -> None:
    async with database.unit_of_work("test") as uow:
        with pytest.raises(Exception, match="division by zero"):
            async with uow.savepoint():
                await uow.connection.execute(text("SELECT 1/0"))
        uow.publish(Noted(note="k"))
        await uow.commit()
    assert await stored(postgres) == NOTHING | {"messages": 1, "streams": 1}


# Receipts.


async def handle(database: Database, cause: Envelope, result: dict[str, Any]) -> None:
    async with database.unit_of_work("test", cause=cause) as uow:
        uow.publish(Noted(note=cause.key))
        await uow.commit(done(result))


async def test_the_second_answer_is_the_first_one_to_the_byte(database: Database) -> None:
    """FA6: the fields keep their order, and the numbers the form in which they were written."""
    reply = done({"zz": 1e23, "b": -0.0, "a": 0.1, "long name": 5e-324})
    async with database.unit_of_work("test", cause=CAUSE) as uow:
        await uow.commit(reply)
    with pytest.raises(AlreadyHandled) as caught:
        async with database.unit_of_work("test", cause=CAUSE):
            pass
    assert caught.value.reply is not None
    assert caught.value.reply.pop("type") == reply.type
    assert json.dumps(caught.value.reply) == json.dumps(reply.model_dump(mode="json"))


async def test_a_second_delivery_is_told_the_first_answer(
    database: Database, postgres: Connection
) -> None:
    await handle(database, CAUSE, {"n": 1})
    with pytest.raises(AlreadyHandled) as caught:
        await handle(database, CAUSE, {"n": 2})
    assert caught.value.reply == {"type": Done.type, **done({"n": 1}).model_dump(mode="json")}
    assert await stored(postgres) == {"messages": 2, "streams": 2, "receipts": 1}


async def test_eight_deliveries_at_once_have_one_effect_and_one_answer(
    database: Database, postgres: Connection
) -> None:
    async def deliver(number: int) -> dict[str, Any]:
        try:
            await handle(database, CAUSE, {"by": number})
        except AlreadyHandled as again:
            assert again.reply is not None
            return again.reply
        return {"type": Done.type, **done({"by": number}).model_dump(mode="json")}

    first, *others = await asyncio.gather(*map(deliver, range(8)))
    assert others == [first] * 7
    assert await stored(postgres) == {"messages": 2, "streams": 2, "receipts": 1}


async def test_a_delivery_that_rolled_back_may_come_again(
    database: Database, postgres: Connection
) -> None:
    async with database.unit_of_work("test", cause=CAUSE):
        pass
    await handle(database, CAUSE, {})
    assert (await stored(postgres))["receipts"] == 1


async def test_a_consumer_knows_its_own_receipts_only(
    database: Database, postgres: Connection, postgres_url: str
) -> None:
    await handle(database, CAUSE, {})
    async with Database(Settings(postgres_url=SecretStr(postgres_url)), "others") as others:
        await handle(others, CAUSE, {})
    assert (await stored(postgres))["receipts"] == 2


@pytest.mark.parametrize(
    "other",
    [
        Envelope(CAUSE.id, "/test", CAUSE.type, "k", b'{"a":2}'),
        Envelope(CAUSE.id, "/test", CAUSE.type, "k", None),
        Envelope(CAUSE.id, "/test", "test.undo.v1", "k", CAUSE.payload),
    ],
    ids=["payload", "no payload", "type"],
)
async def test_an_id_with_another_message_is_refused(
    database: Database, postgres: Connection, other: Envelope
) -> None:
    await handle(database, CAUSE, {})
    before = await stored(postgres)
    with pytest.raises(MessageRejected) as caught:
        await handle(database, other, {})
    assert caught.value.reason == "id-reused"
    assert await stored(postgres) == before


# Limits: what could never be published does not commit.


def sized(payload_bytes: int, letter: str = "x") -> Noted:
    """Return an event whose payload has this many bytes, in texts that are short enough."""
    more = (letter * (200_000 // len(letter.encode())),) * 4
    frame = len(Long(note="k", more=more).payload())
    count, rest = divmod(payload_bytes - frame, len(letter.encode()))
    return Long(note="k", more=more, text=letter * count + "x" * rest)


@pytest.mark.parametrize("letter", ["x", "€"])
async def test_a_payload_of_the_limit_commits(
    database: Database, postgres: Connection, letter: str
) -> None:
    await note(database, sized(MAX_PAYLOAD_BYTES, letter))
    size = await fetch(postgres, "SELECT octet_length(payload) FROM outbox.messages")
    assert size == [(MAX_PAYLOAD_BYTES,)]


async def assert_refused_whole(
    database: Database, postgres: Connection, event: Event, why: str
) -> None:
    """Assert that a unit with this event and a good one is refused, and leaves nothing."""
    with pytest.raises(MessageRejected, match=why):
        async with database.unit_of_work("test", cause=CAUSE) as uow:
            uow.publish(Noted(note="other"))
            uow.publish(event)
            await uow.commit()
    assert await stored(postgres) == NOTHING


@pytest.mark.parametrize("letter", ["x", "€"])
async def test_a_larger_payload_leaves_nothing(
    database: Database, postgres: Connection, letter: str
) -> None:
    await assert_refused_whole(
        database, postgres, sized(MAX_PAYLOAD_BYTES + 1, letter), "too-large: payload"
    )


@pytest.mark.parametrize("key", ["", "x" * 256, "a\x00b"])
async def test_a_key_that_cannot_be_published_leaves_nothing(
    database: Database, postgres: Connection, key: str
) -> None:
    await assert_refused_whole(database, postgres, Noted(note=key), "envelope: key")


@pytest.mark.parametrize("key", ["a\nb", "a\u2028b", "a\x7f"])
async def test_a_key_that_every_reader_refuses_leaves_nothing(database: Database, key: str) -> None:
    with pytest.raises(MessageRejected):
        await note(database, Noted(note=key))


@pytest.mark.parametrize("key", ["x", "x" * 255, "😀" * 255])
async def test_a_key_has_one_to_255_characters(
    database: Database, postgres: Connection, key: str
) -> None:
    await note(database, Noted(note=key))
    assert await messages(postgres) == [(key, 1, Noted.type)]


async def test_a_thousand_messages_of_one_key_commit(
    database: Database, postgres: Connection
) -> None:
    await note(database, Noted(note="k"))
    await note(database, *[Noted(note="k")] * 1_000)
    await note(database, Noted(note="k"))
    versions = [version for _, version, _ in await messages(postgres)]
    assert versions == list(range(1, 1_003))


async def test_one_more_leaves_nothing(database: Database, postgres: Connection) -> None:
    with pytest.raises(MessageRejected, match="at most 1000 of one key"):
        await note(database, *[Noted(note="k")] * 1_001)
    assert await stored(postgres) == NOTHING


# Two units at once.


async def test_units_over_the_same_keys_in_opposite_order_never_deadlock(
    database: Database, postgres: Connection
) -> None:
    keys = [f"k{n}" for n in range(12)]
    for _ in range(50):
        forwards = note(database, *[Noted(note=key) for key in keys])
        backwards = note(database, *[Noted(note=key) for key in reversed(keys)])
        await asyncio.gather(forwards, backwards)  # Contention would be raised here
    assert await fetch(postgres, "SELECT DISTINCT version FROM outbox.streams") == [(100,)]


async def serialization_failure(uow: UnitOfWork, other: Connection) -> None:
    """Read a row, let another transaction write it, and then write the same one.

    This unit sets its isolation level itself, because a default of the database does not apply.
    """
    await uow.connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    await uow.connection.execute(text("SELECT x FROM contended"))
    await other.execute("UPDATE contended SET x = x + 1")
    await uow.connection.execute(text("UPDATE contended SET x = x + 1"))


WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


async def deadlock(uow: UnitOfWork, other: Connection) -> None:
    """Each holds what the other needs; PostgreSQL ends us, because we look for the cycle first."""
    await uow.connection.execute(text("SET LOCAL deadlock_timeout = '20ms'"))
    await uow.connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
    await other.execute("SET deadlock_timeout = '60s'")
    await other.execute("SELECT pg_advisory_lock(2)")
    waits = asyncio.create_task(other.execute("SELECT pg_advisory_lock(1)"))
    while (await uow.connection.execute(text(WAITING))).scalar_one() == 0:  # noqa: ASYNC110 - the server waits
        await asyncio.sleep(0)
    try:
        await uow.connection.execute(text("SELECT pg_advisory_xact_lock(2)"))
    finally:
        await uow.connection.rollback()
        await waits
        await other.execute("SELECT pg_advisory_unlock_all()")


@pytest.mark.parametrize(
    ("contend", "cause"), [(serialization_failure, None), (deadlock, CAUSE)], ids=["level", "locks"]
)
async def test_contention_is_run_again_and_leaves_one_event(
    database: Database, postgres: Connection, contend: Any, cause: Envelope | None
) -> None:
    await postgres.execute("CREATE TABLE contended AS SELECT 0 AS x")
    runs: list[int] = []

    async def work() -> None:
        async with database.unit_of_work("test", cause=cause) as uow:
            uow.publish(Noted(note="k"))
            runs.append(1)
            if len(runs) == 1:
                await contend(uow, postgres)
            await uow.commit()

    await database.retry_on_contention(work)
    assert len(runs) == 2
    assert await stored(postgres) == {"messages": 1, "streams": 1, "receipts": 1 if cause else 0}
    assert await messages(postgres) == [("k", 1, Noted.type)]


async def test_contention_is_run_again_a_bounded_number_of_times(postgres_url: str) -> None:
    settings = Settings(postgres_url=SecretStr(postgres_url), contention_attempts=2)
    runs: list[int] = []
    async with Database(settings, "tests") as database:

        async def work() -> None:
            runs.append(1)
            async with database.unit_of_work("test") as uow:
                raised = "DO $$ BEGIN RAISE EXCEPTION 'chosen' USING ERRCODE = '40P01'; END $$"
                await uow.connection.execute(text(raised))

        with pytest.raises(Contention, match="chosen"):
            await database.retry_on_contention(work)
    assert len(runs) == 2


# Durability.

WATCH = """
    CREATE TABLE watched (x int);
    CREATE TABLE seen (setting text);
    CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO seen VALUES (current_setting('synchronous_commit'));
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON watched
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look();
"""


@pytest.fixture
async def careless(postgres: Connection, postgres_url: str) -> AsyncIterator[Connection]:
    """Give a connection to a database whose default is not to wait for the disk."""
    await postgres.execute(WATCH)
    await postgres.execute(
        f"ALTER DATABASE {postgres.info.dbname} SET synchronous_commit = off".encode()
    )
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        assert await fetch(connection, "SHOW synchronous_commit") == [("off",)]
        yield connection


@pytest.mark.parametrize("events", [(), (Noted(note="k"),)])
async def test_a_unit_commits_durably_whatever_the_default(
    careless: Connection, database: Database, events: tuple[Event, ...]
) -> None:
    async with database.unit_of_work("test", cause=CAUSE) as uow:
        await uow.connection.execute(text("INSERT INTO watched VALUES (1)"))
        for event in events:
            uow.publish(event)
        await uow.commit()
    assert await fetch(careless, "SELECT setting FROM seen") == [("on",)]


PUBLISH = "SELECT * FROM outbox.publish('test.note', %s, 'test.noted.v1', %s::jsonb)"


async def test_publish_in_sql_commits_durably_whatever_the_default(careless: Connection) -> None:
    async with careless.transaction():
        await careless.execute("INSERT INTO watched VALUES (1)")
        await careless.execute(PUBLISH, ["k", "{}"])
    assert await fetch(careless, "SELECT setting FROM seen") == [("on",)]
    assert await fetch(careless, "SHOW synchronous_commit") == [("off",)]


# The same in SQL.


async def test_a_digest_in_sql_is_the_one_of_the_language(postgres: Connection) -> None:
    texts = [None, "", "{}", '{"a": "é€😀"}', "x" * 100_000, "\u2028\n\t\\"]
    for payload in texts:
        cursor = await postgres.execute("SELECT outbox.digest(%s::text)", [payload])
        assert await cursor.fetchone() == (
            digest(payload.encode() if payload is not None else None),
        )


async def test_publish_in_sql_follows_the_same_rules(
    database: Database, postgres: Connection
) -> None:
    positions = []
    for number in range(3):
        await note(database, Noted(note="k"))
        position, version = (await fetch_one(postgres, PUBLISH, ["k", '{"note": "k"}']))[:2]
        assert version == 2 * number + 2
        positions.append(position)
    assert positions == sorted(positions)
    assert [version for _, version, _ in await messages(postgres)] == [1, 2, 3, 4, 5, 6]
    assert await fetch(postgres, HEADS) == [(True,)]


async def fetch_one(connection: Connection, statement: str, parameters: list[Any]) -> Any:
    return await (await connection.execute(statement.encode(), parameters)).fetchone()


async def test_publish_in_sql_is_kept_with_its_transaction_only(postgres: Connection) -> None:
    with suppress(UndoneError):
        async with postgres.transaction():
            await postgres.execute(PUBLISH, ["k", "{}"])
            raise UndoneError
    assert await stored(postgres) == NOTHING


async def test_several_publishes_of_one_transaction_rise(postgres: Connection) -> None:
    async with postgres.transaction():
        for key in "kjk":
            await postgres.execute(PUBLISH, [key, "{}"])
    found = [(key, version) for key, version, _ in await messages(postgres)]
    assert found == [("k", 1), ("j", 1), ("k", 2)]


async def test_publish_in_sql_marks_a_delete(postgres: Connection) -> None:
    statement = "SELECT outbox.publish('test.note', 'k', 'test.erased.v1', '{}', deletes => true)"
    await postgres.execute(statement)
    assert await fetch(postgres, HEADS) == [(True,)]
    assert await fetch(postgres, "SELECT deleted FROM outbox.streams") == [(True,)]


async def test_publish_in_sql_defaults_its_topic(postgres: Connection) -> None:
    await postgres.execute(PUBLISH, ["k", "{}"])
    await postgres.execute(
        "SELECT outbox.publish('test.note', 'k', 'test.noted.v1', '{}', topic => 'elsewhere')"
    )
    topics = await fetch(postgres, "SELECT topic FROM outbox.messages ORDER BY position")
    assert topics == [("test.note.events",), ("elsewhere",)]


@pytest.mark.parametrize(
    ("key", "payload"),
    [("k", '"' + "x" * 900_000 + '"'), ("x" * 256, "{}"), ("", "{}")],
    ids=["payload", "long key", "empty key"],
)
async def test_publish_in_sql_refuses_what_could_not_be_published(
    postgres: Connection, key: str, payload: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        await postgres.execute(PUBLISH, [key, payload])
    assert await stored(postgres) == NOTHING
