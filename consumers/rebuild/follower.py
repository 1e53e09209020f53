"""Follower: keeps a generation that is not live in step, beside the consumer of the live one.

It belongs to no consumer group and keeps no place: it begins at the topics' ends, and what is older
is brought over from the outbox (consumers/rebuild/rebuild.py). So there is nothing to resume, and
nothing of it is left behind. A message that the store refuses is passed over and logged: the check
of the generation names its key.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from consumers.projections.projection import Change, Projection, read_change
from consumers.runner.failures import RetryBackoff, retry_through_outages
from consumers.runner.work_item import read_work_item
from consumers.settings import Settings
from outbox.errors import MessageRejected
from outbox.kafka import ConsumerRecord, Partition, Tail
from schemas.envelope import Envelope

log = structlog.get_logger()

LOOK_SECONDS = 0.02


class Follower:
    """Applies what `tail` brings to `projection`, in order."""

    def __init__(self, settings: Settings, projection: Projection, tail: Tail) -> None:
        self._settings = settings
        self._projection = projection
        self._tail = tail
        self._backoff = RetryBackoff(
            settings.backoff_first_seconds, settings.backoff_longest_seconds
        )
        self._passed: dict[Partition, int] = {}
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow in a task of its own, until `stop`."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Whatever it is doing, and however it ended."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def require(self) -> None:
        """Raise what has ended it, if anything has: DependencyDown where Kafka's records are gone.

        An outage of the store is waited out, and does not end it.
        """
        if self._running is not None and self._running.done():
            self._running.result()

    async def _run(self) -> None:
        settings = self._settings
        while True:
            records = await self._tail.next_records(
                settings.receive_messages, settings.receive_wait_milliseconds
            )
            changes = [change for record in records if (change := _change(record))]

            async def apply(changes: Sequence[Change] = changes) -> None:
                await self._apply(changes)

            await retry_through_outages(apply, self._backoff, asyncio.Event())
            self._passed = await self._tail.position()

    async def caught_up(self) -> None:
        """Return once all that the topics hold at this moment was applied."""
        ends = await self._tail.ends()
        while any(self._passed.get(partition, 0) < end for partition, end in ends.items()):
            self.require()
            await asyncio.sleep(LOOK_SECONDS)

    async def _apply(self, changes: Sequence[Change]) -> None:
        """All at once; where one is refused, one by one."""
        if not changes:
            return
        try:
            await self._projection.apply(changes)
        except MessageRejected as refusal:
            if len(changes) == 1:
                log.warning("not followed", key=changes[0].stream.key, why=str(refusal)[:300])
                return
            for change in changes:
                await self._apply([change])


@asynccontextmanager
async def follow(settings: Settings, projection: Projection) -> AsyncIterator[Follower]:
    """Follow from the topics' ends on, for the length of the block: none that comes is missed."""
    async with Tail(
        settings.kafka_url,
        projection.topics,
        settings.read_timeout_seconds,
        settings.inflated_batch_bytes,
    ) as tail:
        follower = Follower(settings, projection, tail)
        follower.start()
        try:
            yield follower
        finally:
            await follower.stop()


def _change(record: ConsumerRecord) -> Change | None:
    content = read_work_item(record).content
    if not isinstance(content, Envelope):
        return None
    with suppress(MessageRejected):  # no consumer of the live generation applied it either
        return read_change(content)
    return None
