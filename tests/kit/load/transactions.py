"""Transactions of Kafka, by the producer of another library, as another program might use them."""

import asyncio
from typing import Any, Self
from uuid import uuid4

from confluent_kafka import Producer

from consumers.settings import Settings
from outbox.kafka import Record

WITHIN_SECONDS = 60.0


class Transactions:
    """A transactional producer. `send` begins a transaction; one that is left open is aborted."""

    def __init__(self, settings: Settings) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": settings.kafka_url,
                "transactional.id": uuid4().hex,
                "partitioner": "murmur2_random",  # as Kafka's own clients and ours
            }
        )
        self._open = False

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._producer.init_transactions, WITHIN_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._open:
            await self.abort()

    async def send(self, *records: Record) -> None:
        """Send in the open transaction, or begin one; return once it is acknowledged."""
        if not self._open:
            self._producer.begin_transaction()
            self._open = True
        for record in records:
            headers: list[Any] = list(record.headers)
            self._producer.produce(record.topic, record.value, record.key, headers=headers)
        left = await asyncio.to_thread(self._producer.flush, WITHIN_SECONDS)
        assert not left

    async def commit(self) -> None:
        await asyncio.to_thread(self._producer.commit_transaction, WITHIN_SECONDS)
        self._open = False

    async def abort(self) -> None:
        await asyncio.to_thread(self._producer.abort_transaction, WITHIN_SECONDS)
        self._open = False
