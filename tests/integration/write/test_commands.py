"""Commands: each has one effect and one reply (M1, M2), and bad input stops nothing."""

import asyncio
from dataclasses import replace
from typing import LiteralString

import psycopg
import pytest

from consumers.commands import dispatch_envelope
from consumers.settings import Settings
from outbox.kafka import Record
from schemas.catalog import (
    CatalogCommandRejected,
    CatalogCommandSucceeded,
    CreateCatalog,
    Item,
    RemoveItem,
    UpsertItems,
)
from schemas.envelope import Command, Envelope
from schemas.registry import parse_as
from schemas.wire import Headers, encode
from stack.demo.upstream import envelope_of, record_of
from tests.kit.load.roles import (
    COMMANDS,
    Collector,
    again,
    catalog_api,
    command_side,
    running,
    send,
    send_records,
)
from tests.kit.operations.open_letters import list_dead_letters

pytestmark = pytest.mark.anyio

CREATE = CreateCatalog(catalog_id="c", name="C")


def upsert(item_id: str, name: str = "n") -> UpsertItems:
    return UpsertItems(catalog_id="c", items=(Item(item_id=item_id, name=name, text="t"),))


async def one(postgres: psycopg.AsyncConnection, query: LiteralString, *values: str) -> object:
    row = await (await postgres.execute(query, values)).fetchone()
    assert row is not None
    return row[0]


EFFECTS = "SELECT count(*) FROM outbox.messages WHERE aggregatetype <> 'catalog.command'"
OF_CAUSE = "SELECT count(*) FROM outbox.messages WHERE headers->>'causationid' = %s"
CATALOGS = "SELECT count(*) FROM catalog.catalogs"
ITEMS = "SELECT count(*) FROM catalog.items"


async def test_a_command_delivered_five_times_has_one_effect_and_one_reply(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    create, put = envelope_of(CREATE), envelope_of(upsert("a"))
    last = envelope_of(upsert("z"))
    replies = Collector(settings)
    async with command_side(settings), running(replies):
        await send(settings, [create])
        await replies.collected(1)
        await send(settings, [*again(put, 5), last])
        await replies.collected(3)
    assert sorted(r.causation_id or "" for r in replies.envelopes) == sorted(
        [create.id, put.id, last.id]
    )
    assert {r.type for r in replies.envelopes} == {CatalogCommandSucceeded.type}
    assert await one(postgres, OF_CAUSE, put.id) == 2  # the effect and the reply
    assert await one(postgres, EFFECTS) == 3


async def test_a_command_delivered_fifty_times_at_once_has_one_effect_and_one_reply(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """M1: these are more than the pool has connections."""
    put = envelope_of(upsert("a"))
    async with catalog_api(settings) as api:
        await dispatch_envelope(api.dispatcher, envelope_of(CREATE))
        answers = await asyncio.gather(
            *(dispatch_envelope(api.dispatcher, e) for e in again(put, 50))
        )
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["result"] == {"upserted": 1, "unchanged": 0}
    assert await one(postgres, OF_CAUSE, put.id) == 2
    assert await one(postgres, EFFECTS) == 2


async def test_an_id_used_again_for_another_payload_is_refused_and_answered(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    put = envelope_of(upsert("a"))
    other = replace(put, payload=upsert("a", name="other").payload())
    async with catalog_api(settings) as api:
        await dispatch_envelope(api.dispatcher, envelope_of(CREATE))
        first = await dispatch_envelope(api.dispatcher, put)
        refused = await dispatch_envelope(api.dispatcher, other)
        assert refused["reason"] == "id-reused"
        assert await dispatch_envelope(api.dispatcher, other) == refused
        assert await dispatch_envelope(api.dispatcher, put) == first
    assert await one(postgres, "SELECT name FROM catalog.items") == "n"


def raw(command: Command, payload: bytes, **changes: object) -> Record:
    """Make a record with a payload that no client of ours would make."""
    # Each test chooses which fields are replaced.
    envelope: Envelope = replace(envelope_of(command), payload=payload, **changes)  # type: ignore[arg-type] # by name
    key, value, headers = encode(envelope)
    return Record(0, COMMANDS, key, value, headers)


def item(fields: bytes) -> bytes:
    return b'{"catalog_id":"c","items":[{"item_id":"a",' + fields + b"}]}"


# Each has what is wrong, the record, and the reason and the field that the answer must name.
BROKEN = [
    ("unknown type", raw(CREATE, b"{}", type="catalog.explode.v1"), "unknown-type", "type"),
    ("event as command", raw(CREATE, b"{}", type="catalog.item-removed.v1"), "schema", ""),
    ("wrong schema", raw(upsert("a"), b'{"catalog_id":"c"}'), "schema", "items"),
    ("unknown field", raw(CREATE, b'{"catalog_id":"c","name":"C","x":1}'), "schema", "x"),
    ("NaN", raw(upsert("a"), item(b'"name":"n","text":"t","attributes":{"x":NaN}')), "json",
     "items.0.attributes.x"),
    ("1e400", raw(upsert("a"), item(b'"name":"n","text":"t","attributes":{"x":1e400}')), "json",
     "items.0.attributes.x"),
    ("duplicate key", raw(CREATE, b'{"catalog_id":"c","name":"C","name":"D"}'), "json", "name"),
    ("NUL", raw(CREATE, b'{"catalog_id":"c","name":"C\\u0000"}'), "json", "name"),
    ("depth 200", raw(CREATE, b'{"name":' + b"[" * 200 + b"]" * 200 + b"}"), "json", "name"),
    ("empty id", raw(CREATE, b'{"catalog_id":"","name":"C"}'), "schema", "catalog_id"),
    ("long name", raw(CREATE, b'{"catalog_id":"c","name":"' + b"n" * 10_000 + b'"}'), "schema",
     "name"),
    ("other key", raw(CREATE, CREATE.payload(), key="d"), "envelope", "subject"),
    ("no catalog", record_of(envelope_of(upsert("a")), COMMANDS), "not-found", "catalog_id"),
    ("no item", record_of(envelope_of(RemoveItem(catalog_id="c", item_id="q")), COMMANDS),
     "not-found", "item_id"),
]  # fmt: skip


async def test_each_broken_command_is_answered_with_field_and_rule_and_stores_nothing(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    replies = Collector(settings)
    async with command_side(settings), running(replies):
        await send_records(settings, [record for _, record, _, _ in BROKEN])
        await replies.collected(len(BROKEN))
        assert await one(postgres, CATALOGS) == 0
        assert await one(postgres, ITEMS) == 0
        assert await one(postgres, EFFECTS) == 0
        # Nothing stopped: the next good command of the same keys is done.
        await send(settings, [envelope_of(CREATE)])
        await replies.collected(len(BROKEN) + 1)
    assert await one(postgres, CATALOGS) == 1
    answers = {r.causation_id: r for r in replies.envelopes}
    for what, record, reason, field in BROKEN:
        assert isinstance(record.headers, list)
        answer = answers[dict(record.headers)["ce_id"].decode()]
        assert answer.type == CatalogCommandRejected.type, what
        assert answer.payload is not None
        rejection = parse_as(CatalogCommandRejected, answer.payload)
        if field:
            assert rejection.reason == reason, what
            assert rejection.errors[0].field == field, what
            assert rejection.errors[0].rule, what


TWICE: Headers = [("ce_id", b"1"), ("ce_id", b"2")]
UNREADABLE = [
    ("no headers", Record(0, COMMANDS, b"c", b"{}", []), "specversion"),
    ("no envelope, no JSON", Record(0, COMMANDS, b"c", b"\xff\x00 garbage", []), "specversion"),
    ("empty id", raw(CREATE, CREATE.payload(), id=""), "id"),
    ("header twice", Record(0, COMMANDS, b"c", b"x", TWICE), "only once"),
]  # fmt: skip


TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MORE: Headers = [
    ("traceparent", TRACE), ("traceparent", TRACE[:-1] + b"0"), ("ce_sequence", b"A-7"),
    ("ce_big", b"x" * 3_000), ("ce_time", b"2026-01-02t12:00:00z"), ("ce_odd", b"\xff"),
    ("ce_odd", b"again"),
]  # fmt: skip


async def test_what_a_command_does_not_need_keeps_it_from_nothing(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """FB1: instrumentation and other programs add headers, and choose any key."""
    valid = raw(CREATE, CREATE.payload())
    assert isinstance(valid.headers, list)
    others = [pair for pair in valid.headers if pair[0] != "ce_time"]
    odd = valid._replace(key=b"tenant-1", headers=[*others, *MORE])
    replies = Collector(settings)
    async with command_side(settings), running(replies):
        await send_records(settings, [odd])
        (answer,) = await replies.collected(1)
    assert answer.type == CatalogCommandSucceeded.type
    assert (answer.key, answer.traceparent) == (CREATE.key(), TRACE.decode())
    assert await one(postgres, CATALOGS) == 1
    assert await list_dead_letters(settings, 10) == []


async def test_what_cannot_be_answered_becomes_a_dead_letter_with_its_bytes(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    replies = Collector(settings)
    async with command_side(settings), running(replies):
        await send_records(settings, [record for _, record, _ in UNREADABLE])
        await send(settings, [envelope_of(CREATE)])
        await replies.collected(
            1
        )  # it has the same key, so the dead letters before it were written first
    letters = await list_dead_letters(settings, 10)
    assert len(letters) == len(UNREADABLE)
    for (what, record, field), letter in zip(UNREADABLE, letters, strict=True):
        assert field in str(letter["error"]), what
        assert letter["status"] == "dead"
        stored = await (
            await postgres.execute(
                "SELECT key, value FROM outbox.dead_letters WHERE id = %s", [letter["id"]]
            )
        ).fetchone()
        assert stored == (record.key, record.value), what
    assert await one(postgres, CATALOGS) == 1


@pytest.mark.parametrize("key", [b"", b"tenant-1", (7).to_bytes(8, "big")])
async def test_a_command_that_names_no_subject_is_about_what_its_payload_says(
    settings: Settings, postgres: psycopg.AsyncConnection, key: bytes
) -> None:
    """FB1: CloudEvents makes the subject optional, and Kafka the key of a record."""
    valid = raw(CREATE, CREATE.payload())
    assert isinstance(valid.headers, list)
    others = [pair for pair in valid.headers if pair[0] != "ce_subject"]
    replies = Collector(settings)
    async with command_side(settings), running(replies):
        await send_records(settings, [valid._replace(key=key, headers=others)])
        (answer,) = await replies.collected(1)
    assert (answer.type, answer.key) == (CatalogCommandSucceeded.type, CREATE.key())
    assert await one(postgres, CATALOGS) == 1
