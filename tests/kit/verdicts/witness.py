"""Witness: reads the topic at the broker itself, around any proxy, and judges at the end."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from consumers.settings import Settings
from outbox.kafka.errors import start_client
from schemas.wire import decode
from tests.kit.topics import PARTITIONS
from tests.kit.verdicts.history import TOPIC, Seen, Verdict, committed, judge
from tests.kit.waiting import until

WITHIN_SECONDS = 120.0  # no test depends on how fast the machine is


class Witness:
    """Reads everything on a topic, from its beginning, until the block ends.

    It belongs to no group, since joining one would take seconds.
    """

    def __init__(self, settings: Settings, topic: str = TOPIC) -> None:
        self.seen = Seen()
        self.times: list[tuple[datetime | None, datetime]] = []  # the event's, the record's
        self._settings = settings
        self._topic = topic
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_url,
            fetch_max_wait_ms=20,
            auto_offset_reset="earliest",
        )

    async def __aenter__(self) -> Self:
        await start_client(self._consumer)
        self._consumer.assign([TopicPartition(self._topic, number) for number in range(PARTITIONS)])
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading
        await self._consumer.stop()

    async def _read(self) -> None:
        while True:
            for place, records in (await self._consumer.getmany(timeout_ms=50)).items():
                for record in records:
                    envelope = decode(record.key, record.value, record.headers)
                    self.seen.add(envelope, place.partition)
                    sent = datetime.fromtimestamp(record.timestamp / 1000, UTC)
                    self.times.append((envelope.time, sent))

    async def saw_all(self, within_seconds: float = WITHIN_SECONDS) -> Verdict:
        """Return the verdict, once all that is committed now was seen, or time is up."""
        truth = await self._committed()

        async def all_there() -> bool:
            return truth <= self.seen.times.keys()

        with suppress(TimeoutError):
            await until(all_there, within_seconds, 0.02)
        return await self.verdict()

    async def verdict(self) -> Verdict:
        """Return the verdict about what was committed and seen by now."""
        self._require_reading()
        return judge(await self._committed(), self.seen)

    async def saw_copies(self) -> None:
        """Return once a duplicate was seen."""

        async def one_came() -> bool:
            return self.seen.copies > 0

        await until(one_came, WITHIN_SECONDS, 0.02)

    async def saw_term(self, term: int, within_seconds: float) -> None:
        """Return once a record of this term, or of a later one, was seen."""

        async def one_came() -> bool:
            return self.seen.last_term() >= term

        await until(one_came, within_seconds, 0.02)

    async def _committed(self) -> set[tuple[str, int]]:
        return await committed(self._settings.libpq_url(), self._topic)

    def _require_reading(self) -> None:
        """Raise the error that has ended the reading, if one has."""
        if self._reading.done():
            self._reading.result()
