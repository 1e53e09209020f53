"""Assignment: what one member works on between two rebalances.

It takes records, applies them through key queues, and knows up to which offset each partition may
be committed. When it ends, what runs is given some time to finish. What still runs after that is
cancelled and its record is delivered again: an effect that happens late is harmless, because every
reaction is fenced.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consumers.dead_letters.redelivery import Retried
from consumers.runner.applier import Applier, AttemptOutcome
from consumers.runner.circuit_breaker import CircuitBreaker
from consumers.runner.failures import RetryBackoff
from consumers.runner.flow_control import FlowControl
from consumers.runner.in_flight_offsets import InFlightOffsets
from consumers.runner.key_queues import KeyQueues, WorkBatch
from consumers.runner.work_item import WorkItem, read_work_item
from outbox.kafka import ConsumerRecord, Partition


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one member's work.

    Messages and bytes in flight are those of all its partitions together.
    """

    batch_messages: int
    batches_side_by_side: int
    in_flight_messages: int
    in_flight_bytes: int


class Assignment:
    """The work of one assignment of partitions; it is of no use after `end`.

    `pause` and `resume` stop and restart the fetching of a partition. `failed` is called with
    what no attempt may raise: a bug, which leaves its key as it was.
    """

    def __init__(
        self,
        applier: Applier,
        bounds: Bounds,
        backoff: RetryBackoff,
        pause: Callable[[Partition], None],
        resume: Callable[[Partition], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.partitions: frozenset[Partition] = frozenset()
        self.knows_parked = False
        self._failed = failed
        self._applier = applier
        self._backoff = backoff
        self._side_by_side = bounds.batches_side_by_side
        self._queues = KeyQueues(bounds.batch_messages, applier.must_run_alone)
        self._flow_control = FlowControl(
            bounds.in_flight_messages, bounds.in_flight_bytes, pause, resume
        )
        self._in_flight: dict[Partition, InFlightOffsets] = {}
        self._committed: dict[Partition, int] = {}
        self._retried_ids: set[int] = set()
        self._accepted_retried = False
        self._breaker = CircuitBreaker()
        self._outage_waits = backoff.waits()
        self._waits_for_store = False
        self._ended = False
        self._running: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Set its partitions, which are known a moment after the assignment begins."""
        self.partitions = frozenset(partitions)
        self._flow_control.divide(self.partitions)

    def accept(self, fetched: Mapping[Partition, Sequence[ConsumerRecord]]) -> None:
        """Take records, each partition's in the order of their offsets.

        After the end they are dropped: whoever has the partition then reads from the committed
        offset.
        """
        if self._ended:
            return
        for partition, records in fetched.items():
            items = [read_work_item(record) for record in records]
            in_flight = self._in_flight.setdefault(partition, InFlightOffsets())
            for item in items:
                in_flight.receive(item.record.offset)
                self._queues.add(item)
            self._flow_control.add(partition, len(items), sum(item.bytes for item in items))
        self._start_batches()

    def redeliver(self, retried: Iterable[Retried]) -> None:
        """Take messages of dead letters that are due; those that it has already are ignored."""
        self._accepted_retried = False
        if self._ended:
            return
        for each in retried:
            if each.id not in self._retried_ids:
                self._accepted_retried = True
                self._retried_ids.add(each.id)
                self._queues.add(read_work_item(each.record, each))
        self._start_batches()

    @property
    def has_redelivered(self) -> bool:
        """Whether the last redelivery brought something and all of it is settled.

        Then more may be due.
        """
        return self._accepted_retried and not self._retried_ids

    def committable(self) -> dict[Partition, int]:
        """The lowest unfinished offset of each partition in which it has moved since the commit."""
        lowest = {at: in_flight.lowest for at, in_flight in self._in_flight.items()}
        return {
            partition: offset
            for partition, offset in lowest.items()
            if offset is not None and offset > self._committed.get(partition, -1)
        }

    def mark_committed(self, offsets: Mapping[Partition, int]) -> None:
        """Remember offsets that the broker has taken."""
        self._committed.update(offsets)

    @property
    def in_flight_messages(self) -> int:
        """How many messages are received, and neither applied nor dead-lettered."""
        return self._flow_control.messages

    async def end(self, within_seconds: float) -> None:
        """Start nothing more; wait at most so long for what runs, and cancel the rest of it."""
        self._ended = True
        for timer in self._timers:
            timer.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=within_seconds)
        for running in self._running:
            running.cancel()

    @property
    def is_gone(self) -> bool:
        """Whether nothing of it runs."""
        return not self._running

    async def wait_until_gone(self) -> None:
        """Wait until nothing of it runs any more; what was cancelled may take a moment."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start_batches(self) -> None:
        """Start batches while there is room; with an open breaker one at a time, after its wait."""
        while not self._ended and not self._waits_for_store:
            most = 1 if self._breaker.is_open else self._side_by_side
            if len(self._running) >= most or (batch := self._queues.take()) is None:
                return
            self._start(self._run(batch))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        running = asyncio.create_task(work)
        self._running.add(running)
        running.add_done_callback(self._handle_end)

    def _handle_end(self, running: asyncio.Task[None]) -> None:
        self._running.discard(running)
        if not running.cancelled() and (error := running.exception()) is not None:
            self._failed(error)
        else:
            self._start_batches()

    async def _run(self, batch: WorkBatch) -> None:
        items = batch.items
        try:
            outcome = await self._applier.attempt(items, batch.queues[0].attempts + 1)
        except asyncio.CancelledError:
            if self._ended:
                raise
            # Not by us: somebody gave up a connection of ours.
            outcome = AttemptOutcome.DEPENDENCY_FAILED
        if outcome is AttemptOutcome.DEPENDENCY_FAILED:
            self._wait_for_dependency(batch)
            return
        self._end_outage()
        if outcome is AttemptOutcome.LETTER_SETTLED:
            self._queues.requeue(batch)
        elif outcome is AttemptOutcome.UNEXPECTED_ERROR:
            batch.queues[0].attempts += len(items) == 1
            self._put_back(batch)
        else:
            self._finish(batch, items, outcome)

    def _finish(self, batch: WorkBatch, items: Sequence[WorkItem], outcome: AttemptOutcome) -> None:
        if outcome is AttemptOutcome.DEAD_LETTERED and items[0].retried:
            self._forget_retried(self._queues.drop_retried(batch))
        self._queues.finish(batch)
        self._forget_retried(items)
        for item in items:
            if not item.retried:
                self._finish_record(item)

    def _forget_retried(self, items: Iterable[WorkItem]) -> None:
        self._retried_ids -= {item.retried.id for item in items if item.retried}

    def _finish_record(self, item: WorkItem) -> None:
        partition = (item.record.topic, item.record.partition)
        self._in_flight[partition].finish(item.record.offset)
        if not self._ended:
            self._flow_control.release(partition, 1, item.bytes)

    def _wait_for_dependency(self, batch: WorkBatch) -> None:
        for queue in batch.queues:
            self._breaker.record_failure(queue.key)
        self._put_back(batch)
        if self._breaker.is_open:
            self._waits_for_store = True
            self._call_later(next(self._outage_waits), self._stop_waiting)

    def _end_outage(self) -> None:
        self._breaker.record_success()
        self._outage_waits = self._backoff.waits()

    def _stop_waiting(self) -> None:
        self._waits_for_store = False

    def _put_back(self, batch: WorkBatch) -> None:
        """Try a batch again at once, as single messages, and a single message after its wait."""
        if len(batch.items) > 1:
            self._queues.split(batch)
            return
        queue = batch.queues[0]
        queue.waits = queue.waits or self._backoff.waits()
        self._call_later(next(queue.waits), lambda: self._queues.resume(queue))

    def _call_later(self, seconds: float, then: Callable[[], None]) -> None:
        if self._ended:
            return

        def act() -> None:
            self._timers.discard(timer)
            then()
            self._start_batches()

        timer = asyncio.get_running_loop().call_later(seconds, act)
        self._timers.add(timer)
