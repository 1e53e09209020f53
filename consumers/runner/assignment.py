"""Share: what one member works on between two rebalances.

It takes records, runs their lanes, and knows up to where each partition may be committed. When it
ends, what runs has some time to finish; what is still running then is cancelled, and comes again
with its record: a late effect is harmless, because every reaction is fenced.
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
    """Of the work of one member; messages and bytes are those of all its partitions together."""

    batch_messages: int
    units_side_by_side: int
    in_flight_messages: int
    in_flight_bytes: int


class Assignment:
    """Made for each assignment; of no use after `end`.

    `pause` and `resume` keep the broker from sending more of a partition, or let it go on. `failed`
    is told what no attempt may raise: a bug, which leaves its key as it was.
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
        self._side_by_side = bounds.units_side_by_side
        self._queues = KeyQueues(bounds.batch_messages, applier.apart)
        self._flow_control = FlowControl(
            bounds.in_flight_messages, bounds.in_flight_bytes, pause, resume
        )
        self._unfinished: dict[Partition, InFlightOffsets] = {}
        self._committed: dict[Partition, int] = {}
        self._retried: set[int] = set()
        self._took_retried = False
        self._breaker = CircuitBreaker()
        self._world_waits = backoff.waits()
        self._closed_by_outage = False
        self._ended = False
        self._running: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Which it is about; known a moment after the share begins."""
        self.partitions = frozenset(partitions)
        self._flow_control.divide(self.partitions)

    def accept(self, fetched: Mapping[Partition, Sequence[ConsumerRecord]]) -> None:
        """Take records, each partition's in the order of their offsets. After the end: drop them,
        since whoever has the partition then reads from what was committed."""
        if self._ended:
            return
        for partition, records in fetched.items():
            tasks = [read_work_item(record) for record in records]
            unfinished = self._unfinished.setdefault(partition, InFlightOffsets())
            for task in tasks:
                unfinished.receive(task.record.offset)
                self._queues.add(task)
            self._flow_control.took(partition, len(tasks), sum(task.bytes for task in tasks))
        self._pump()

    def redeliver(self, retried: Iterable[Retried]) -> None:
        """Take what is due again; what is here already is ignored."""
        self._took_retried = False
        if self._ended:
            return
        for each in retried:
            if each.id not in self._retried:
                self._took_retried = True
                self._retried.add(each.id)
                self._queues.add(read_work_item(each.record, each))
        self._pump()

    @property
    def has_redelivered(self) -> bool:
        """All of what was due, where something was: then more may be."""
        return self._took_retried and not self._retried

    def committable(self) -> dict[Partition, int]:
        """Where it has moved since `committed` was told: the lowest unfinished offset of each."""
        lowest = {at: unfinished.lowest for at, unfinished in self._unfinished.items()}
        return {
            partition: offset
            for partition, offset in lowest.items()
            if offset is not None and offset > self._committed.get(partition, -1)
        }

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """The broker has them."""
        self._committed.update(offsets)

    @property
    def in_flight_messages(self) -> int:
        """Received, and neither applied nor buried."""
        return self._flow_control.messages

    async def end(self, within_seconds: float) -> None:
        """Hand out nothing more; return when nothing runs, at the latest after so long."""
        self._ended = True
        for timer in self._timers:
            timer.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=within_seconds)
        for task in self._running:
            task.cancel()

    @property
    def is_gone(self) -> bool:
        """Nothing of it runs."""
        return not self._running

    async def gone(self) -> None:
        """Return when nothing of it runs any more; cancelled ones may take a moment."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _pump(self) -> None:
        """Start units while there is room; in an outage one at a time, after its wait."""
        while not self._ended and not self._closed_by_outage:
            most = 1 if self._breaker else self._side_by_side
            if len(self._running) >= most or (unit := self._queues.take()) is None:
                return
            self._start(self._run(unit))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        running = asyncio.create_task(work)
        self._running.add(running)
        running.add_done_callback(self._stopped_running)

    def _stopped_running(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
        else:
            self._pump()

    async def _run(self, unit: WorkBatch) -> None:
        tasks = unit.tasks
        try:
            outcome = await self._applier.attempt(tasks, unit.queues[0].attempts + 1)
        except asyncio.CancelledError:
            if self._ended:
                raise
            outcome = (
                AttemptOutcome.WORLD
            )  # by somebody who gave up a connection of ours, not by us
        if outcome is AttemptOutcome.WORLD:
            self._world_failed(unit)
            return
        self._world_works()
        if outcome is AttemptOutcome.AGAIN:
            self._queues.again(unit)
        elif outcome is AttemptOutcome.SURPRISE:
            unit.queues[0].attempts += len(tasks) == 1
            self._put_back(unit)
        else:
            self._finish(unit, tasks, outcome)

    def _finish(self, unit: WorkBatch, tasks: Sequence[WorkItem], outcome: AttemptOutcome) -> None:
        if outcome is AttemptOutcome.BURIED and tasks[0].retried:
            self._forget(self._queues.forget_retried(unit))
        self._queues.finish(unit)
        self._forget(tasks)
        for task in tasks:
            if not task.retried:
                self._done(task)

    def _forget(self, tasks: Iterable[WorkItem]) -> None:
        self._retried -= {task.retried.id for task in tasks if task.retried}

    def _done(self, task: WorkItem) -> None:
        partition = (task.record.topic, task.record.partition)
        self._unfinished[partition].finish(task.record.offset)
        if not self._ended:
            self._flow_control.released(partition, 1, task.bytes)

    def _world_failed(self, unit: WorkBatch) -> None:
        for queue in unit.queues:
            self._breaker.failed(queue.key)
        self._put_back(unit)
        if self._breaker:
            self._closed_by_outage = True
            self._later(next(self._world_waits), self._open)

    def _world_works(self) -> None:
        self._breaker.succeeded()
        self._world_waits = self._backoff.waits()

    def _open(self) -> None:
        self._closed_by_outage = False

    def _put_back(self, unit: WorkBatch) -> None:
        """A batch at once, as single messages; one of those after its wait."""
        if len(unit.tasks) > 1:
            self._queues.split(unit)
            return
        queue = unit.queues[0]
        queue.waits = queue.waits or self._backoff.waits()
        self._later(next(queue.waits), lambda: self._queues.resume(queue))

    def _later(self, seconds: float, then: Callable[[], None]) -> None:
        if self._ended:
            return

        def act() -> None:
            self._timers.discard(timer)
            then()
            self._pump()

        timer = asyncio.get_running_loop().call_later(seconds, act)
        self._timers.add(timer)
