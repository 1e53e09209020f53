"""C9, C19, C20: a record that no consumer can take becomes a dead letter, and later ones flow."""

import json
from collections import Counter
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer

from consumers.projections.projection import ProjectionReaction
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.kafka import Record, count_unread
from schemas.catalog import ItemUpserted
from schemas.envelope import Envelope
from schemas.wire import encode
from tests.kit.consumers.item_store import TOPIC, Store, event
from tests.kit.load.roles import running, send_records
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 90.0
KEY = b"c/odd"


def raw(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> Record:
    return Record(0, TOPIC, key, value, headers)  # type: ignore[arg-type] # drawn, also wrong ones


HEADERS = encode(
    Envelope(
        id="odd-1",
        source="/catalog",
        type=ItemUpserted.type,
        key="c/odd",
        payload=b"",
        sequence=1,
    )
)[2]
STRUCTURED = [("content-type", b"application/cloudevents+json")]


def with_headers(*more: tuple[str, bytes], without: str = "") -> Record:
    """A good event with other headers."""
    kept = [(name, part) for name, part in HEADERS if name != without]
    return event("odd", 1)._replace(headers=[*kept, *more])


def of_type(name: str) -> Record:
    return with_headers(("ce_type", name.encode()), without="ce_type")


CORPUS: dict[str, Record] = {
    "nothing at all": raw(None, None, []),
    "no key, raw bytes": raw(None, b"\x00\xff", []),
    "an empty key": raw(b"", b"{}", []),
    "raw bytes": raw(KEY, bytes(range(256)), []),
    "no value": raw(KEY, None, []),
    "a key that is no text": raw(b"\xff\xfe", b"{}", []),
    "a key with a NUL": raw(b"c/\x00", b"{}", []),
    "a key of 100 kB": raw(b"k" * 100_000, b"{}", []),
    "a missing header": with_headers(without="ce_id"),
    "a doubled header": with_headers(("ce_id", b"again")),
    "an oversized header": with_headers(("ce_subject", b"s" * 100_000), without="ce_subject"),
    "a header that is no text": with_headers(("ce_source", b"\xff"), without="ce_source"),
    "a structured body that is no object": raw(KEY, b"[1]", STRUCTURED),
    "a structured body without an end": raw(KEY, b'{"a":', STRUCTURED),
    "an unknown type": of_type("catalog.item-levitated.v1"),
    "a newer major version": of_type("catalog.item-upserted.v99"),
    "a deep body": raw(KEY, b"[" * 10_000, HEADERS),
    "a number that is none": raw(KEY, b'{"a": NaN}', HEADERS),
}
"""By name; `c/odd` is the key of those that have one."""


async def test_each_has_a_letter_with_its_bytes_and_the_rest_flows(
    settings: Settings, postgres: psycopg.AsyncConnection[Any]
) -> None:
    """C9, C19, C20, I12: the corpus, and a good event behind each."""
    store = Store()
    async with running(Runner(settings, ProjectionReaction(store))):
        for number, record in enumerate(CORPUS.values()):
            send_any(settings, record)
            await send_records(settings, [event(f"good{number}", 1)])
        await until(lambda: all_done(settings, store), WITHIN_SECONDS)
    for number in range(len(CORPUS)):
        assert await store.version(f"good{number}") == 1
    rows = await postgres.execute("SELECT key, value, reason FROM outbox.dead_letters")
    kept = Counter((key, value) for key, value, _ in await rows.fetchall())
    assert kept == Counter((record.key, record.value) for record in CORPUS.values())


def send_any(settings: Settings, record: Record) -> None:
    """Send a record, even one that no publisher of this project would send."""
    producer = Producer({"bootstrap.servers": settings.kafka_url})
    assert not isinstance(record.headers, bytes)
    producer.produce(record.topic, record.value, record.key, headers=list(record.headers))
    assert producer.flush(30) == 0


async def all_done(settings: Settings, store: Store) -> bool:
    return await count_unread(settings.kafka_url, f"aftercommit.{store.name}", [TOPIC]) == 0


async def test_a_field_that_is_newer_within_a_version_is_ignored(settings: Settings) -> None:
    """C20: an event with a field that this consumer does not know."""
    newer = event("new", 1)
    state = ItemUpserted(catalog_id="c", item_id="new", name="n", text="t")
    body = json.loads(state.payload()) | {"colour": "red"}
    store = Store()
    async with running(Runner(settings, ProjectionReaction(store))):
        await send_records(settings, [newer._replace(value=json.dumps(body).encode())])
        await until(lambda: all_done(settings, store), WITHIN_SECONDS)
    assert await store.version("new") == 1
