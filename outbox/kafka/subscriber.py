"""Subscriber: a member of a consumer group that commits by hand, and skips no record.

aiokafka by itself does skip: a group without offsets starts at the latest record or jumps there
after retention, a batch that is too large is stepped over, and records that were taken out of a
fetch are lost where a later batch of that fetch is broken. Here each of these cases has an outcome
of its own: a start at the earliest record, Halted, or Unreadable.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, Self

from aiokafka import TopicPartition, errors

from outbox.errors import Halted, Unreadable
from outbox.kafka.consumer import BROKEN, Consumer
from outbox.kafka.consumer_record import ConsumerRecord, Fetched, Partition, read_consumer_record
from outbox.kafka.errors import broker_errors, start_client, stop_client
from outbox.kafka.inflation import INFLATED_BATCH_BYTES
from outbox.kafka.listener import Listener, end_nothing, ignore_assignment
from outbox.runtime.failpoints import Failpoint, while_waiting

UNREADABLE_SECONDS = 10.0  # until a partition that could not be read is tried again
LOOK_MILLISECONDS = 200
PATIENCE_SECONDS = 1.0  # beyond the wait of a receive, since aiokafka waits longer in a rebalance


class Subscriber:
    """A member of a consumer group with manual commits.

    `receive` gives records in offset order for each partition. A group that has no offset of a
    partition starts at its earliest record, and commits that offset; so an offset that is out of
    range later on cannot be that of a new group. Other records are committed only by `commit`.

    It reads committed records only. Offsets without a record, which are transaction markers and
    aborted records, are committed by itself once nothing before them is in flight: otherwise a
    group would stay behind for ever, and stand still when the broker removes them.

    `revoked` is awaited before partitions are given back, for at most the group's rebalance
    timeout; what was received before is useless afterwards. `assigned` gets all that are assigned.
    """

    def __init__(
        self,
        bootstrap: str,
        group: str,
        topics: Sequence[str],
        session_timeout_milliseconds: int,
        max_fetch_bytes: int,
        rebalance_timeout_milliseconds: int | None = None,
        fetch_wait_milliseconds: int = 500,
        revoked: Callable[[], Awaitable[None]] = end_nothing,
        assigned: Callable[[Collection[Partition]], None] = ignore_assignment,
        inflated_batch_bytes: int = INFLATED_BATCH_BYTES,
    ) -> None:
        # A commit that takes as long as a session lasts would be refused anyway.
        self._commit_seconds = session_timeout_milliseconds / 1000
        self._group = group
        self._next: dict[TopicPartition, int] = {}  # behind what was received
        self._committed: dict[TopicPartition, int] = {}  # as far as known
        self._unreadable: dict[TopicPartition, float] = {}  # left alone until then
        self._paused: set[TopicPartition] = set()
        self._candidates: deque[TopicPartition] = deque()  # one of these may be broken
        self._generation = 0  # of our assignment; work begun under an older one is void
        self._consumer = Consumer(
            bootstrap_servers=bootstrap,
            inflated_batch_bytes=inflated_batch_bytes,
            group_id=group,
            auto_offset_reset="none",
            session_timeout_ms=session_timeout_milliseconds,
            heartbeat_interval_ms=max(100, session_timeout_milliseconds // 10),
            rebalance_timeout_ms=rebalance_timeout_milliseconds or session_timeout_milliseconds,
            max_poll_interval_ms=24 * 3600 * 1000,  # an outage of a store is waited out
            fetch_max_wait_ms=fetch_wait_milliseconds,
            fetch_max_bytes=max_fetch_bytes,
            max_partition_fetch_bytes=max_fetch_bytes,
        )
        self._consumer.subscribe(topics, listener=Listener(self._forget, revoked, assigned))

    async def __aenter__(self) -> Self:
        with broker_errors():
            try:
                await start_client(self._consumer)
            except BaseException:
                await stop_client(self._consumer)
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_client(self._consumer)

    async def receive(self, max_records: int, wait_milliseconds: int) -> Fetched:
        """Return the records that have arrived, at most `max_records`; empty when none did in time.

        Halted where the committed offset is out of range. Unreadable of one partition, which is
        then left alone for UNREADABLE_SECONDS; the others go on with the next call.
        """
        self._retry_unreadable()
        with broker_errors():
            try:
                if self._candidates:
                    return await self._receive_from(self._candidates.popleft(), max_records)
                return await self._receive_or_pass(max_records, wait_milliseconds)
            except errors.NoOffsetForPartitionError as error:
                await self._start_at_earliest(error.args[0])
            except errors.OffsetOutOfRangeError as error:
                raise self._build_halt(error.args[0]) from error
            except BROKEN:
                await self._rewind(self._consumer.assignment())
                self._candidates.extend(self._consumer.assignment() - self._unreadable.keys())
        return {}

    async def commit(self, offsets: Mapping[Partition, int]) -> bool:
        """Record, for each partition, the offset of the next record to read.

        False where the group has gone on without us: whoever has the partitions now repeats what
        was not committed. DependencyDown without an answer in time.
        """
        positions = {TopicPartition(*partition): offset for partition, offset in offsets.items()}
        with broker_errors():
            try:
                committing = self._await_commit(self._consumer.commit(positions))
                await while_waiting(Failpoint.OFFSET_SENT, committing)
            except (errors.CommitFailedError, errors.IllegalStateError):
                return False
        self._committed.update(positions)
        return True

    def pause(self, partition: Partition) -> None:
        """Receive nothing more of it; records fetched but not given out are fetched again later."""
        self._paused.add(TopicPartition(*partition))
        self._apply_pause(TopicPartition(*partition))

    def resume(self, partition: Partition) -> None:
        """Receive from the partition again."""
        self._paused.discard(TopicPartition(*partition))
        self._apply_pause(TopicPartition(*partition))

    def assigned(self) -> set[Partition]:
        """Return the partitions that this member has now."""
        return {(tp.topic, tp.partition) for tp in self._consumer.assignment()}

    async def _await_commit(self, commit: Coroutine[Any, Any, None]) -> None:
        """Await a commit for a bounded time, and never cancel it.

        aiokafka shields a request that it has sent. If the task that waits for it were cancelled,
        nobody would retrieve the request's error, and asyncio would complain of that.
        """
        task = asyncio.create_task(commit)
        task.add_done_callback(_retrieve_error)
        await asyncio.wait([task], timeout=self._commit_seconds)
        if not task.done():
            raise TimeoutError(f"no answer to a commit for {self._commit_seconds:g} s")
        task.result()

    async def _receive_or_pass(self, max_records: int, wait_milliseconds: int) -> Fetched:
        """Return what has arrived; where nothing did, commit positions that passed offsets only.

        The positions are from before the question: a batch that cannot be read may have moved one
        already, but then the answer would have raised its error.
        """
        before = self._consumer.positions()
        fetched = await self._receive((), max_records, wait_milliseconds)
        if not fetched:
            await self._commit_passed(before)
        return fetched

    async def _commit_passed(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit these positions of idle partitions where they are beyond the committed ones."""
        generation = self._generation
        idle = {tp: at for tp, at in positions.items() if self._is_idle(tp)}
        await self._learn_committed(idle.keys() - self._committed.keys())
        passed = {tp: at for tp, at in idle.items() if at > self._committed.get(tp, at)}
        if not passed or generation != self._generation:
            return
        done = await self.commit({(tp.topic, tp.partition): at for tp, at in passed.items()})
        if done and generation == self._generation:
            self._next.update(passed)

    def _is_idle(self, tp: TopicPartition) -> bool:
        """Return whether all that was received of the partition is committed."""
        return tp not in self._next or self._next[tp] == self._committed.get(tp)

    async def _learn_committed(self, partitions: Collection[TopicPartition]) -> None:
        """Ask for the committed offsets of all of them at once; a partition may have none."""
        generation = self._generation
        async with asyncio.timeout(self._commit_seconds):
            asked = (self._consumer.committed(tp) for tp in partitions)
            offsets = await asyncio.gather(*asked)
        if generation == self._generation:
            known = zip(partitions, offsets, strict=True)
            self._committed.update({tp: offset for tp, offset in known if offset is not None})

    async def _receive(
        self, partitions: Iterable[TopicPartition], max_records: int, wait_milliseconds: int
    ) -> Fetched:
        """Receive from these partitions, or from all where there are none.

        Nothing is awaited after records were taken out, so a cancellation can lose none of them.
        """
        try:
            async with asyncio.timeout(wait_milliseconds / 1000 + PATIENCE_SECONDS):
                fetched = await self._consumer.getmany(
                    *partitions, timeout_ms=wait_milliseconds, max_records=max_records
                )
        except TimeoutError:
            return {}
        self._next.update({tp: records[-1].offset + 1 for tp, records in fetched.items()})
        return {
            (tp.topic, tp.partition): [read_consumer_record(record) for record in records]
            for tp, records in fetched.items()
        }

    async def _receive_from(self, tp: TopicPartition, max_records: int) -> Fetched:
        """Receive from one partition alone, record by record.

        So all records before the broken one are given out before Unreadable is raised.
        """
        partition, generation = (tp.topic, tp.partition), self._generation
        taken: list[ConsumerRecord] = []
        try:
            while len(taken) < max_records and tp in self._consumer.assignment():
                wait = 0 if taken else LOOK_MILLISECONDS
                if not (fetched := await self._receive([tp], 1, wait)):
                    break
                taken += fetched[partition]
        except BROKEN as error:
            await self._rewind([tp])
            if not taken:
                raise self._leave_alone(tp, error) from error
            self._candidates.append(tp)
        return {partition: taken} if taken and generation == self._generation else {}

    def _leave_alone(self, tp: TopicPartition, error: BaseException) -> Unreadable:
        """Receive nothing of the partition for UNREADABLE_SECONDS; return the error to raise."""
        self._unreadable[tp] = monotonic() + UNREADABLE_SECONDS
        self._apply_pause(tp)
        return Unreadable((tp.topic, tp.partition), self._next.get(tp, 0), error)

    def _retry_unreadable(self) -> None:
        """Let partitions that could not be read be tried again once their time has come."""
        now = monotonic()
        for tp in [tp for tp, until in self._unreadable.items() if until <= now]:
            del self._unreadable[tp]
            self._candidates.append(tp)
            self._apply_pause(tp)

    async def _start_at_earliest(self, tp: TopicPartition) -> None:
        """Start a group that has no offset of the partition at its earliest record."""
        async with asyncio.timeout(self._commit_seconds):
            earliest = (await self._consumer.beginning_offsets([tp]))[tp]
            if await self.commit({(tp.topic, tp.partition): earliest}):
                self._seek(tp, earliest)

    async def _rewind(self, partitions: Iterable[TopicPartition]) -> None:
        """Go back to the first record that was not given out; aiokafka may be beyond it already."""
        generation = self._generation
        for tp in list(partitions):
            async with asyncio.timeout(self._commit_seconds):
                offset = self._next[tp] if tp in self._next else await self._consumer.committed(tp)
            if offset is not None and generation == self._generation:
                self._next[tp] = offset
                self._seek(tp, offset)

    def _seek(self, tp: TopicPartition, offset: int) -> None:
        if tp in self._consumer.assignment():  # otherwise a rebalance has come between
            self._consumer.seek(tp, offset)

    def _apply_pause(self, tp: TopicPartition) -> None:
        """Pause the partition in the client where the caller has, or where it is unreadable."""
        if tp not in self._consumer.assignment():
            return
        held = tp in self._paused or tp in self._unreadable
        (self._consumer.pause if held else self._consumer.resume)(tp)

    def _forget(self) -> None:
        """Drop all that belongs to an assignment: positions, pauses, unreadable partitions."""
        self._generation += 1
        self._next.clear()
        self._committed.clear()
        self._paused.clear()
        self._unreadable.clear()
        self._candidates.clear()

    def _build_halt(self, offsets: Mapping[TopicPartition, int]) -> Halted:
        named = ", ".join(f"{tp.topic}/{tp.partition} at {at}" for tp, at in offsets.items())
        return Halted(
            f"{self._group}: the broker does not hold what comes next ({named}); it was removed"
            " before it was read, or the topic is another one; `python -m consumers skip-removed`"
            " shows what is lost, and lets it go on at what is there"
        )


def _retrieve_error(task: asyncio.Task[None]) -> None:
    """Retrieve the error of a commit that nobody waits for any more, so that asyncio is silent."""
    if not task.cancelled():
        task.exception()
