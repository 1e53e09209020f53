"""Watch: whether a consumer group commits ahead of its work, as it is seen from outside (I9)."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, Self

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition

from consumers.settings import Settings
from outbox.errors import DependencyDown
from outbox.kafka.errors import broker_errors, start_client
from outbox.kafka.reader import Reader
from schemas.wire import decode
from tests.kit.consumers.effects import LETTERS, applied
from tests.kit.verdicts.history import TOPIC

EVERY_SECONDS = 0.3
PARTITIONS = [TopicPartition(TOPIC, number) for number in range(4)]
Offsets = Mapping[TopicPartition, int]


class Watch:
    """Looks at a group again and again; `looks` has what it had committed, and what it had done.

    What it had done is read a moment later: effects that are applied, and dead letters by key.
    """

    def __init__(self, settings: Settings, consumer: str) -> None:
        self._settings = settings
        self._consumer = consumer
        self.looks: list[tuple[Offsets, frozenset[str], list[str]]] = []

    @classmethod
    @asynccontextmanager
    async def over(cls, settings: Settings, consumer: str) -> AsyncIterator[Self]:
        """Look for the length of the block."""
        watch = cls(settings, consumer)
        looking = asyncio.create_task(watch.run())
        try:
            yield watch
        finally:
            looking.cancel()
            await asyncio.wait([looking])

    async def run(self) -> None:
        group = f"aftercommit.{self._consumer}"
        reader = AIOKafkaConsumer(bootstrap_servers=self._settings.kafka_url, group_id=group)
        await start_client(reader)
        try:
            async with await psycopg.AsyncConnection.connect(
                self._settings.libpq_url(), autocommit=True
            ) as connection:
                while True:
                    with suppress(DependencyDown):
                        await self._look(reader, connection)
                    await asyncio.sleep(EVERY_SECONDS)
        finally:
            await reader.stop()

    async def _look(
        self, reader: AIOKafkaConsumer, connection: psycopg.AsyncConnection[Any]
    ) -> None:
        with broker_errors():
            committed = {tp: await reader.committed(tp) or 0 for tp in PARTITIONS}
        done = frozenset(await applied(connection, self._consumer))
        rows = await connection.execute(LETTERS, [self._consumer])
        self.looks.append((committed, done, [row[0] for row in await rows.fetchall()]))

    async def ahead(self) -> list[str]:
        """Return the keys of which something was committed before it was done.

        A message counts as done if it was applied or dead-lettered; a key's letters come in order.
        """
        records = await read_all(self._settings)
        found = []
        for committed, done, letters in self.looks:
            dead_lettered = Counter(letters)
            for tp, offset in committed.items():
                passed = [record for record in records[tp] if record.offset < offset]
                dead_lettered.subtract(record.key for record in passed if record.id not in done)
            found += [key for key, left in dead_lettered.items() if left < 0]
        return found


class Seen(NamedTuple):
    """A record of the topic, and the event's identity in it."""

    offset: int
    key: str
    id: str


async def read_all(settings: Settings) -> dict[TopicPartition, list[Seen]]:
    """Return every record of the topic, by its partition."""
    found: dict[TopicPartition, list[Seen]] = {tp: [] for tp in PARTITIONS}
    async with Reader(settings.kafka_url, [TOPIC], 30.0) as reader:
        async for (topic, number), records in reader.read(await reader.read_ranges()):
            for record in records:
                envelope = decode(record.key, record.value, record.headers)
                found[TopicPartition(topic, number)].append(
                    Seen(record.offset, envelope.key, envelope.id)
                )
    return found
