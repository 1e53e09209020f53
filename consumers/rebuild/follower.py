"""Follower: keeps a generation that is not live in step, beside the consumer of the live one.

It belongs to no consumer group and commits no offsets: it begins at the topics' ends, and older
messages are brought over from the outbox (consumers/rebuild/rebuild.py). So there is nothing to
resume, and it leaves nothing behind. A message that the store refuses is logged and skipped: the
check of the generation names its key.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from consumers.projections.isolate_refused import apply_all_but_refused
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
    """Applies the messages of `tail` to `projection`, in order."""

    def __init__(self, settings: Settings, projection: Projection, tail: Tail) -> None:
        self._settings = settings
        self._projection = projection
        self._tail = tail
        self._backoff = RetryBackoff(
            settings.backoff_first_seconds, settings.backoff_longest_seconds
        )
        self._applied_up_to: dict[Partition, int] = {}
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow in a task of its own, until `stop` is called."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Cancel the task, and wait until it has ended; its error is not raised."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def raise_if_failed(self) -> None:
        """Raise the error that has ended the task, if it has ended.

        That is DependencyDown where Kafka no longer has the next records. An outage of the store
        does not end it: the follower waits until it is over.
        """
        if self._running is not None and self._running.done():
            self._running.result()

    async def _run(self) -> None:
        settings = self._settings
        while True:
            records = await self._tail.next_records(
                settings.receive_messages, settings.receive_wait_milliseconds
            )
            changes = [change for record in records if (change := _read_change(record))]

            async def apply(changes: Sequence[Change] = changes) -> None:
                await self._apply(changes)

            await retry_through_outages(apply, self._backoff, asyncio.Event())
            self._applied_up_to = await self._tail.position()

    async def wait_until_caught_up(self) -> None:
        """Return once everything that the topics hold at the call was applied."""
        ends = await self._tail.ends()
        while any(self._applied_up_to.get(partition, 0) < end for partition, end in ends.items()):
            self.raise_if_failed()
            await asyncio.sleep(LOOK_SECONDS)

    async def _apply(self, changes: Sequence[Change]) -> None:
        if changes:
            await apply_all_but_refused(self._projection, changes, _log_refusal)


@asynccontextmanager
async def follow(settings: Settings, projection: Projection) -> AsyncIterator[Follower]:
    """Follow from the topics' ends on, inside the block; no message that comes is missed."""
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


def _log_refusal(change: Change, refusal: MessageRejected) -> None:
    log.warning("not followed", key=change.stream.key, why=str(refusal)[:300])


def _read_change(record: ConsumerRecord) -> Change | None:
    content = read_work_item(record).content
    if not isinstance(content, Envelope):
        return None
    with suppress(MessageRejected):  # the live generation's consumer does not apply it either
        return read_change(content)
    return None
