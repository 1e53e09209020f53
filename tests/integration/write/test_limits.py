"""FA7: there is one set of limits: what every reader can read commits, and nothing else does.

Each limit is tried at its number and just above it, through SQL and through a unit of work. What is
then in the table is rendered, and read as a consumer reads it.
"""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import psycopg
import pytest
from pydantic import SecretStr

from outbox.cursor.cut import Row
from outbox.errors import MessageRejected
from outbox.relay.renderer import Renderer
from outbox.settings import Settings
from outbox.write.database import Database
from schemas import limits, strict_json, wire
from schemas.envelope import Envelope, Event
from tests.kit.records import headers_of

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection[Any]

GOOD: dict[str, Any] = {
    "aggregatetype": "test.note", "aggregateid": "k", "type": "test.noted.v1", "payload": "{}",
    "deletes": False, "headers": "{}", "topic": None, "id": None,
}  # fmt: skip
PUBLISH = """
SELECT outbox.publish(%(aggregatetype)s, %(aggregateid)s, %(type)s, %(payload)s::jsonb,
                      %(deletes)s, %(headers)s::jsonb, %(topic)s, %(id)s)
"""
ROWS = """
SELECT position, topic, aggregateid, aggregatetype, id::text, type, version, payload,
       headers::text, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
FROM outbox.messages ORDER BY position
"""
# The limit of a Kafka with its defaults, less what frames a record.
RECORD_BYTES = 1_048_588 - 100


async def publish(connection: Connection, **changed: Any) -> None:
    await connection.execute(PUBLISH.encode(), GOOD | changed)


async def refusal(connection: Connection, **changed: Any) -> str:
    """Publish what the function must refuse, and return its message."""
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        await publish(connection, **changed)
    assert caught.value.diag.message_hint
    message = caught.value.diag.message_primary or ""
    assert message.isprintable()
    return message


async def rendered(connection: Connection) -> list[Envelope]:
    """Return all committed messages as a consumer reads them."""
    rows = await (await connection.execute(ROWS.encode())).fetchall()
    return [read(Row(*map(as_bytes, row))) for row in rows]


def as_bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def read(row: Row) -> Envelope:
    record = Renderer(term=1).render(row)
    headers = headers_of(record)
    size = len(record.key) + len(record.value or b"") + sum(len(n) + len(v) for n, v in headers)
    assert size < RECORD_BYTES
    envelope = wire.decode(record.key, record.value, headers)
    if envelope.payload is not None:
        strict_json.load(envelope.payload)
    return envelope


# In SQL. Each case has the values that are given, and the parameter that a refusal names.

FOUR_BYTES = "\U0001f600"


def named(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: value}


def filled(more: int) -> list[str]:
    """Return texts that are short enough; the last one makes the document as long as needed."""
    return ["x" * 200_000] * 4 + ["x" * more]


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def keyed(keys: int) -> str:
    return json.dumps({"deep": [{f"k{n}": n for n in range(keys)}]})


def extended(count: int) -> dict[str, Any]:
    return {"headers": json.dumps({f"e{n}": "" for n in range(count)})}


def header(name: str, value: Any) -> dict[str, Any]:
    return {"headers": json.dumps({name: value})}


def topic_of(characters: int) -> dict[str, Any]:
    return {"topic": "x" * characters}


AT_THE_LIMIT: dict[str, tuple[Callable[[int], dict[str, Any]], int, str]] = {
    "key": (lambda n: {"aggregateid": FOUR_BYTES * n}, limits.KEY_CHARACTERS, "aggregateid"),
    "type": (lambda n: {"type": FOUR_BYTES * n}, limits.TYPE_CHARACTERS, "type"),
    "aggregate": (
        lambda n: {"aggregatetype": FOUR_BYTES * n, "topic": "t"},
        limits.AGGREGATE_CHARACTERS,
        "aggregatetype",
    ),
    "topic": (topic_of, limits.TOPIC_CHARACTERS, "topic"),
    "default topic": (
        lambda n: {"aggregatetype": "x" * (n - len(".events"))},
        limits.TOPIC_CHARACTERS,
        "topic",
    ),
    "payload": (
        lambda n: {"payload": json.dumps(filled(n - len(json.dumps(filled(0)))))},
        limits.PAYLOAD_BYTES,
        "payload",
    ),
    "depth": (lambda n: {"payload": nested(n)}, limits.DEPTH_LEVELS, "payload"),
    "depth of objects": (
        lambda n: {"payload": '{"a":' * (n - 1) + "{}" + "}" * (n - 1)},
        limits.DEPTH_LEVELS,
        "payload",
    ),
    "keys": (lambda n: {"payload": keyed(n)}, limits.OBJECT_KEYS, "payload"),
    "text": (lambda n: {"payload": json.dumps({"a": ["x" * n]})}, limits.TEXT_BYTES, "payload"),
    "text of several bytes": (
        lambda n: {"payload": json.dumps(FOUR_BYTES * (n // 4) + "x" * (n % 4))},
        limits.TEXT_BYTES,
        "payload",
    ),
    "name": (lambda n: {"payload": json.dumps({"x" * n: 1})}, limits.TEXT_BYTES, "payload"),
    "digits": (lambda n: {"payload": "[" + "9" * n + "]"}, limits.INTEGER_DIGITS, "payload"),
    "negative digits": (lambda n: {"payload": "-" + "9" * n}, limits.INTEGER_DIGITS, "payload"),
    "header": (lambda n: header("tenant", "x" * n), limits.ATTRIBUTE_BYTES, "headers.tenant"),
    "own header": (
        lambda n: header("correlationid", "é" * (n // 2) + "x" * (n % 2)),
        limits.ATTRIBUTE_BYTES,
        "headers.correlationid",
    ),
    "header name": (
        lambda n: header("x" * n, "a"),
        limits.EXTENSION_NAME_CHARACTERS,
        'headers."xxxxxxxxxxxxxxxxxxxxx"',
    ),
    "headers": (extended, limits.EXTENSIONS, "headers"),
}


async def test_what_is_at_a_limit_commits_and_is_read(postgres: Connection) -> None:
    for make, limit, _ in AT_THE_LIMIT.values():
        await publish(postgres, **make(limit))
    assert len(await rendered(postgres)) == len(AT_THE_LIMIT)


async def test_what_is_above_a_limit_is_refused_by_name(postgres: Connection) -> None:
    for make, limit, parameter in AT_THE_LIMIT.values():
        message = await refusal(postgres, **make(limit + 1))
        assert message.startswith(f"outbox.publish: {parameter}: ")
    assert await rendered(postgres) == []


async def test_all_headers_together_have_a_limit(postgres: Connection) -> None:
    """Each header is short enough. The limit is that of the JSON that PostgreSQL prints."""
    eight = {f"e{n}": "x" * 1_014 for n in range(8)}
    frame = len(json.dumps(eight)) - 8 * 1_014
    fits = eight | {"e7": "x" * (limits.HEADERS_BYTES - frame - 7 * 1_014)}
    await publish(postgres, headers=json.dumps(fits))
    (envelope,) = await rendered(postgres)
    assert envelope.extensions == fits
    with pytest.raises(psycopg.errors.CheckViolation, match="headers: at most 8192 bytes"):
        await publish(postgres, headers=json.dumps(fits | {"e7": fits["e7"] + "x"}))


CANNOT_BE_READ: list[tuple[dict[str, Any], str]] = [
    ({"type": "t\n.v1"}, "type"),
    ({"type": ""}, "type"),
    ({"aggregatetype": "a\u2028b"}, "aggregatetype"),
    ({"aggregatetype": ""}, "aggregatetype"),
    ({"aggregateid": "a\x7f"}, "aggregateid"),
    ({"topic": "."}, "topic"),
    ({"topic": ".."}, "topic"),
    ({"topic": ""}, "topic"),
    ({"topic": "a b"}, "topic"),
    ({"topic": "a\n"}, "topic"),
    ({"aggregatetype": "not a topic"}, "topic"),
    ({"payload": '[1.5, 1' + "0" * 400 + ".5]"}, "payload"),
    ({"payload": "-1" + "0" * 310 + ".0"}, "payload"),
    ({"payload": "[0.12345678901234567890]"}, "payload"),
    ({"payload": '{"a": 1234567890123456.7}'}, "payload"),
    ({"payload": "[1e-400]"}, "payload"),
    (header("correlationid", "a\nb"), "headers.correlationid"),
    (header("tenant", "a\u0085b"), "headers.tenant"),
    (header("tenant", 5), "headers.tenant"),
    (header("tenant", True), "headers.tenant"),
    (header("tenant", {"a": "b"}), "headers.tenant"),
    (header("traceparent", ["a"]), "headers.traceparent"),
    (header("Tenant", "a"), 'headers."Tenant"'),
    (header("x-tenant", "a"), 'headers."x-tenant"'),
    (header("", "a"), 'headers.""'),
    (header("a\n", "a"), 'headers."a\\n"'),
    *((header(name, "a"), f"headers.{name}") for name in ("id", "source", "type", "subject")),
    *((header(name, "a"), f"headers.{name}") for name in ("time", "sequence", "position", "term")),
    *((header(name, "a"), f"headers.{name}") for name in ("replayfor", "specversion", "data")),
    ({"headers": "[]"}, "headers"),
    ({"headers": "5"}, "headers"),
]  # fmt: skip


async def test_what_no_reader_takes_is_refused_by_name(postgres: Connection) -> None:
    """FA6: that includes numbers that readers would change."""
    for changed, parameter in CANNOT_BE_READ:
        message = await refusal(postgres, **changed)
        assert message.startswith(f"outbox.publish: {parameter}: ")
    assert await rendered(postgres) == []


async def test_what_must_be_there_is_named_where_it_is_null(postgres: Connection) -> None:
    for name in ("aggregatetype", "aggregateid", "type", "deletes", "payload"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"{name}: must not be null"):
            await publish(postgres, **{name: None})
    assert await rendered(postgres) == []


async def test_what_is_odd_and_can_be_read_commits(postgres: Connection) -> None:
    for changed in ODD:
        await publish(postgres, **changed)
    assert len(await rendered(postgres)) == len(ODD)


ODD: list[dict[str, Any]] = [
    {"headers": None},
    {"headers": "null"},
    {"payload": "null"},
    {"payload": "[]"},
    {"payload": '"text"'},
    {"payload": '{"\u2028": "\u2029", "": 1}'},
    {"payload": '{"a": 1, "a": 2}'},  # jsonb keeps the last one, before anybody looks
    {"payload": None, "deletes": True},
    {"payload": "[1e400, -1e400, 5e-324, 1.5e300, 1e23]"},
    {"payload": "[0.30000000000000004, 123456789012345.6, 9007199254740993]"},
    {"payload": '["12345678901234567.12345 is text"]'},
    header("tenant", None),
    header("tenant", ""),
]


async def test_a_row_that_is_inserted_by_hand_keeps_the_rules_of_names(
    postgres: Connection,
) -> None:
    insert = """
        INSERT INTO outbox.messages (position, id, aggregatetype, aggregateid, type, version, topic)
        VALUES (1, gen_random_uuid(), %(aggregatetype)s, 'k', %(type)s, 1, %(topic)s)
    """
    good = {"aggregatetype": "a.b", "type": "t.v1", "topic": "t"}
    for broken in ({"type": "t\n.v1"}, {"aggregatetype": "a\tb"}, {"topic": ".."}):
        with pytest.raises(psycopg.errors.CheckViolation):
            await postgres.execute(insert, good | broken)
    await postgres.execute(insert, good)


# In Python.


class Noted(Event):
    type: ClassVar[str] = "test.noted.v1"
    topic: ClassVar[str] = "test.note.events"
    aggregate: ClassVar[str] = "test.note"

    note: Any = None
    given: bytes | None = None

    def key(self) -> str:
        return "k"

    def payload(self) -> bytes:
        return self.model_dump_json().encode() if self.given is None else self.given


class Plain(Event):
    """An event with pydantic's own payload."""

    type: ClassVar[str] = Noted.type
    topic: ClassVar[str] = Noted.topic
    aggregate: ClassVar[str] = Noted.aggregate

    note: Any

    def key(self) -> str:
        return "k"


def nest(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 2):  # the event itself is one level
        value = [value]
    return value


PYTHON_LIMITS: dict[str, tuple[Callable[[int], Any], int]] = {
    "depth": (nest, limits.DEPTH_LEVELS),
    "keys": (lambda n: {f"k{i}": i for i in range(n)}, limits.OBJECT_KEYS),
    "text": (lambda n: "x" * n, limits.TEXT_BYTES),
    "text of several bytes": (lambda n: "é" * (n // 2) + "x" * (n % 2), limits.TEXT_BYTES),
    "name": (lambda n: {"x" * n: 1}, limits.TEXT_BYTES),
    "payload": (
        lambda n: filled(n - len(Plain(note=filled(0)).payload())),
        limits.PAYLOAD_BYTES,
    ),
}


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with Database(Settings(postgres_url=SecretStr(postgres_url)), "tests") as database:
        yield database


async def publish_in_unit(
    database: Database, *events: Event, cause: Envelope | None = None
) -> None:
    async with database.unit_of_work("test", cause=cause) as uow:
        for event in events:
            uow.publish(event)
        await uow.commit()


async def test_a_unit_commits_what_is_at_a_limit(database: Database, postgres: Connection) -> None:
    for make, limit in PYTHON_LIMITS.values():
        await publish_in_unit(database, Plain(note=make(limit)))
    assert len(await rendered(postgres)) == len(PYTHON_LIMITS)


async def test_a_unit_leaves_nothing_of_what_is_above_a_limit(
    database: Database, postgres: Connection
) -> None:
    for make, limit in PYTHON_LIMITS.values():
        with pytest.raises(MessageRejected):
            await publish_in_unit(database, Plain(note="first"), Plain(note=make(limit + 1)))
    assert await rendered(postgres) == []


async def test_a_unit_leaves_nothing_of_what_no_reader_takes(
    database: Database, postgres: Connection
) -> None:
    for event in BROKEN:
        with pytest.raises(MessageRejected):
            await publish_in_unit(database, Plain(note="first"), event)
    assert await rendered(postgres) == []


BROKEN: list[Event] = [
    Plain(note="a\x00b"),
    Plain(note={"a\x00b": 1}),
    Plain(note="\ud800"),
    Plain(note=float("nan")),
    Plain(note={"a": [float("-inf")]}),
    Plain(note=10**5_000),
    Noted(given=b""),
    Noted(given=b"not json"),
    Noted(given=b'{"a": 1, "a": 2}'),
    Noted(given=b'{"a": 1e400}'),
    Noted(given=b'{"a": NaN}'),
    Noted(given=b"\xff"),
    Noted(given=b'"\\ud800"'),
]


async def test_what_only_looks_broken_commits(database: Database, postgres: Connection) -> None:
    notes = ["\\u0000", "NaN", "Infinity", {"": None}, 2.5, "\u2028", 10**400, "[" * 70]
    for note in notes:
        await publish_in_unit(database, Plain(note=note))
    found = [json.loads(envelope.payload or b"") for envelope in await rendered(postgres)]
    assert found == [{"note": note} for note in notes]


NAMES = [
    ("type", "t\n.v1"), ("type", ""), ("type", "x" * 256), ("aggregate", "a\u2029"),
    ("aggregate", "x" * 256), ("topic", ".."), ("topic", "a b"), ("topic", "x" * 250),
    ("topic", "t\n"),
]  # fmt: skip


async def test_a_class_whose_names_no_reader_takes_publishes_nothing(
    database: Database, postgres: Connection
) -> None:
    for name, value in NAMES:
        cls = type("Named", (Plain,), {name: value, "__annotations__": {name: ClassVar[str]}})
        with pytest.raises(MessageRejected, match=f"envelope: {name}: "):
            await publish_in_unit(database, cls(note=1))
    assert await rendered(postgres) == []


async def test_a_cause_that_no_reader_takes_is_no_cause(
    database: Database, postgres: Connection
) -> None:
    for text in ("a\nb", "x" * 1_025):
        cause = Envelope("1", "/test", "t", "k", b"{}", correlation_id=text)
        with pytest.raises(MessageRejected, match="envelope: correlationid: "):
            await publish_in_unit(database, Plain(note=1), cause=cause)
    assert await rendered(postgres) == []
