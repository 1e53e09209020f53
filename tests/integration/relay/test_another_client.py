"""Other programs can read what our relay sends: librdkafka and the CloudEvents SDK."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio.to_thread
import confluent_kafka
import orjson
import psycopg
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat

from consumers.settings import Settings
from outbox.relay.relay import Relay
from outbox.streams.heads import StreamKey
from outbox.streams.latest import read_latest
from outbox.write.database import Database
from schemas.catalog import CatalogCreated, ItemRemoved, ItemUpserted
from schemas.envelope import Envelope, Event
from schemas.wire import decode
from tests.kit.load.roles import running

pytestmark = pytest.mark.anyio

Message = Any  # the type of headers in confluent_kafka is too wide to be useful

CAUSE = Envelope("cause-1", "/test", "catalog.test.v1", "c", b"{}", correlation_id="correlation-1")


EXTENDED = """
    SELECT outbox.publish('catalog.item', 'air/JFK', 'catalog.item-removed.v1',
                          '{"catalog_id": "air", "item_id": "JFK"}', true,
                          '{"tenant": "é ✈", "dataschema": "urn:x", "correlationid": "c-1"}')
"""


def events() -> list[Event]:
    """Return events of two keys of one aggregate and one of another, some not in ASCII."""
    jfk: Any = {"catalog_id": "air", "item_id": "JFK"}
    return [
        CatalogCreated(catalog_id="air", name="Flughäfen ✈"),
        ItemUpserted(**jfk, name="John F. Kennedy", text="new york"),
        ItemUpserted(**jfk, name="JFK", text="new york", attributes={"state": "NY", "runways": 4}),
        ItemUpserted(catalog_id="air", item_id="ZRH", name="Zürich", text="zürich"),
        ItemRemoved(**jfk),
    ]


async def publish(settings: Settings) -> None:
    """Publish each event in a transaction of its own."""
    async with Database(settings, "test") as database:
        for number, event in enumerate(events()):
            cause = replace(CAUSE, id=f"cause-{number}")
            async with database.unit_of_work("publish", cause=cause) as uow:
                uow.publish(event)
                await uow.commit()


def read(kafka_url: str, topics: list[str], count: int) -> list[Message]:
    """Read `count` messages with librdkafka."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": kafka_url,
            "group.id": "another",
            "auto.offset.reset": "earliest",
            "topic.metadata.refresh.interval.ms": 200,
        }
    )
    consumer.subscribe(topics)
    messages: list[Message] = []
    deadline = time.monotonic() + 200
    while len(messages) < count and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            messages.append(message)
    consumer.close()
    return messages


def headers_of(message: Message) -> dict[str, bytes]:
    pairs = list(message.headers())
    headers = dict(pairs)
    assert len(headers) == len(pairs), "a header occurs twice"
    return headers


def parsed(message: Message) -> BaseCloudEvent:
    value = message.value() or b""
    return from_binary(KafkaMessage(headers_of(message), message.key(), value), JSONFormat())


async def test_every_record_is_a_cloud_event_with_the_right_attributes(settings: Settings) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    await publish(settings)
    topics = ["catalog.catalog.events", "catalog.item.events"]
    async with running(Relay(settings)):
        messages = await anyio.to_thread.run_sync(read, settings.kafka_url, topics, len(events()))
    assert len(messages) == len(events())
    versions: dict[str, int] = {}
    expected = {}
    for event in events():
        versions[event.key()] = versions.get(event.key(), 0) + 1
        expected[event.key(), versions[event.key()]] = event
    for message in messages:
        cloud_event = parsed(message)
        key, version = (message.key() or b"").decode(), int(cloud_event.get_extension("sequence"))
        event = expected.pop((key, version))
        assert message.topic() == event.topic
        assert cloud_event.get_type() == event.type
        assert cloud_event.get_subject() == key
        assert cloud_event.get_source() == "/catalog"
        assert cloud_event.get_specversion() == "1.0"
        assert cloud_event.get_datacontenttype() == "application/json"
        assert cloud_event.get_data() == orjson.loads(event.payload())
        assert len(cloud_event.get_extension("sequence")) == 20
        sent = cloud_event.get_time()
        assert sent is not None
        assert before < sent < datetime.now(UTC) + timedelta(seconds=1)
        headers = headers_of(message)
        assert headers["id"].decode() == cloud_event.get_id()
        assert headers["correlationid"] == b"correlation-1"
        assert headers["causationid"].startswith(b"cause-")
        assert headers["term"] == b"1"
        assert int(headers["position"]) > 0
    assert not expected


async def test_headers_that_a_writer_gave_are_extensions_to_every_reader(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """FA9: they stand beside the payload in SQL, and are attributes in every record."""
    await postgres.execute(EXTENDED)
    async with running(Relay(settings)):
        (message,) = await anyio.to_thread.run_sync(
            read, settings.kafka_url, ["catalog.item.events"], 1
        )
    cloud_event = parsed(message)
    assert cloud_event.get_extension("tenant") == "é ✈"
    assert cloud_event.get_dataschema() == "urn:x"
    headers = headers_of(message)
    assert headers["correlationid"] == b"c-1"
    ours = decode(message.key(), message.value(), list(headers.items()))
    assert dict(ours.extensions) == {"dataschema": "urn:x", "tenant": "é ✈"}
    latest = await read_latest(postgres, [StreamKey("catalog.item", "air/JFK")])
    assert latest[StreamKey("catalog.item", "air/JFK")] == replace(ours, term=None)


async def test_one_key_is_in_one_partition_in_order_of_its_versions(settings: Settings) -> None:
    await publish(settings)
    async with running(Relay(settings)):
        messages = await anyio.to_thread.run_sync(
            read, settings.kafka_url, ["catalog.item.events"], len(events()) - 1
        )
    of_jfk = [message for message in messages if message.key() == b"air/JFK"]
    assert len({message.partition() for message in of_jfk}) == 1
    in_order = sorted(of_jfk, key=lambda message: message.offset() or 0)
    assert [int(headers_of(m)["ce_sequence"]) for m in in_order] == [1, 2, 3]
