"""Records that no relay would send, and that an audit must find (see also planted_rows.py)."""

from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaProducer

from consumers.settings import Settings
from outbox.kafka import Partition
from schemas.envelope import Envelope
from schemas.wire import Headers, encode

TOPIC = "test.note.events"


async def send(settings: Settings, envelope: Envelope, at: Partition) -> int:
    """Send it past the outbox; return its offset."""
    key, value, headers = encode(envelope)
    return await send_raw(settings, at, key, value, headers)


async def send_raw(
    settings: Settings, at: Partition, key: bytes | None, value: bytes | None, headers: Headers
) -> int:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_url) as producer:
        topic, partition = at
        acknowledged = await producer.send_and_wait(
            topic, value, key, partition=partition, headers=headers
        )
    return int(acknowledged.offset)


def alter(envelope: Envelope, **changes: Any) -> Envelope:
    return replace(envelope, **changes)
