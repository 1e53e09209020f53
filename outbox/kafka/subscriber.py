"""Subscriber: a member of a consumer group that commits by hand, and passes over nothing.

aiokafka would: a group without offsets starts at the latest record or jumps there after retention,
a batch that is too large is stepped over, and records that were taken out of a fetch are forgotten
where a later batch of it is broken. Here each of these is an answer of its own.
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
from outbox.kafka.errors import broker_errors, stop_client
from outbox.kafka.inflation import INFLATED_BATCH_BYTES
from outbox.kafka.listener import Listener
from outbox.runtime.failpoints import Failpoint, while_waiting

UNREADABLE_SECONDS = 10.0  # until a partition that could not be read is tried again
LOOK_MILLISECONDS = 200
PATIENCE_SECONDS = 1.0  # beyond what a receive may wait: aiokafka waits longer in a rebalance


async def _nothing_to_end() -> None:
    """For who has no work beyond `receive`."""


def _assigned_to_nobody(_: Collection[Partition]) -> None:
    """For who does not ask."""


class Subscriber:
    """A member of a consumer group with manual commits.

    `receive` gives records in offset order for each partition; nothing is committed but what
    `commit` is told. A group that has no offset of a partition starts at its earliest record, and
    commits that it does; so an offset that is out of range later on is no new group's.

    It reads what is committed. Offsets without a record, which are markers of transactions and what
    was rolled back, are committed as well, once nothing before them is in flight: else a group
    would stay behind for ever, and stand still when the broker removes them.

    `revoked` is awaited before the partitions are given back, for as long as the group's rebalance
    timeout is; what was received before is of no more use afterwards. `assigned` is told which they
    are now, all of them.
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
        revoked: Callable[[], Awaitable[None]] = _nothing_to_end,
        assigned: Callable[[Collection[Partition]], None] = _assigned_to_nobody,
        inflated_batch_bytes: int = INFLATED_BATCH_BYTES,
    ) -> None:
        # A commit that has taken as long as a session would be refused anyway.
        self._commit_seconds = session_timeout_milliseconds / 1000
        self._group = group
        self._next: dict[TopicPartition, int] = {}  # what was given out ends before these
        self._committed: dict[TopicPartition, int] = {}  # as far as it is known
        self._unreadable: dict[TopicPartition, float] = {}  # until when each is left alone
        self._paused: set[TopicPartition] = set()
        self._suspects: deque[TopicPartition] = deque()
        self._generation = 0  # of our assignment; what was begun before it has changed is void
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
                await self._consumer.start()
            except BaseException:
                await stop_client(self._consumer)
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_client(self._consumer)

    async def receive(self, max_records: int, wait_milliseconds: int) -> Fetched:
        """What has arrived, at most `max_records`; empty when nothing did in time.

        Halted where the committed offset is out of range. Unreadable of one partition, which is
        then left alone for UNREADABLE_SECONDS; the others go on with the next call.
        """
        self._try_again()
        with broker_errors():
            try:
                if self._suspects:
                    return await self._receive_from(self._suspects.popleft(), max_records)
                return await self._receive_or_pass(max_records, wait_milliseconds)
            except errors.NoOffsetForPartitionError as error:
                await self._begin(error.args[0])
            except errors.OffsetOutOfRangeError as error:
                raise self._out_of_range(error.args[0]) from error
            except BROKEN:
                await self._rewind(self._consumer.assignment())
                self._suspects.extend(self._consumer.assignment() - self._unreadable.keys())
        return {}

    async def commit(self, offsets: Mapping[Partition, int]) -> bool:
        """Record, for each partition, the offset of the next record to read.

        False where the group has gone on without us: whoever has the partitions then repeats what
        was not committed.
        """
        positions = {TopicPartition(*partition): offset for partition, offset in offsets.items()}
        with broker_errors():
            try:
                committing = self._without_end(self._consumer.commit(positions))
                await while_waiting(Failpoint.OFFSET_SENT, committing)
            except (errors.CommitFailedError, errors.IllegalStateError):
                return False
        self._committed.update(positions)
        return True

    def pause(self, partition: Partition) -> None:
        """Receive nothing more of it; what the client has of it already is read again later."""
        self._paused.add(TopicPartition(*partition))
        self._let_flow(TopicPartition(*partition))

    def resume(self, partition: Partition) -> None:
        self._paused.discard(TopicPartition(*partition))
        self._let_flow(TopicPartition(*partition))

    def assigned(self) -> set[Partition]:
        return {(tp.topic, tp.partition) for tp in self._consumer.assignment()}

    async def _without_end(self, commit: Coroutine[Any, Any, None]) -> None:
        """Await it, but not for ever; and never cancel it.

        aiokafka shields what it has sent; where whoever waits for that is cancelled, nobody hears
        how it ends, and asyncio complains of that.
        """
        task = asyncio.create_task(commit)
        task.add_done_callback(_heard)
        await asyncio.wait([task], timeout=self._commit_seconds)
        if not task.done():
            raise TimeoutError(f"no answer to a commit for {self._commit_seconds:g} s")
        task.result()

    async def _receive_or_pass(self, max_records: int, wait_milliseconds: int) -> Fetched:
        """What has arrived; where nothing did, commit what was passed before that was asked.

        Only then: a batch that cannot be read may have moved a position already, but would have
        been raised by the answer.
        """
        before = self._consumer.positions()
        fetched = await self._receive((), max_records, wait_milliseconds)
        if not fetched:
            await self._commit_passed(before)
        return fetched

    async def _commit_passed(self, positions: Mapping[TopicPartition, int]) -> None:
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
        """All that was given out of it was committed."""
        return tp not in self._next or self._next[tp] == self._committed.get(tp)

    async def _learn_committed(self, partitions: Collection[TopicPartition]) -> None:
        """In one question for all of them; those of which the group has none are left out."""
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
        """No await after records were taken out: a cancellation can lose none of them."""
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
        """Of one alone, record by record, so that all before the broken one is given out."""
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
                raise self._left_alone(tp, error) from error
            self._suspects.append(tp)
        return {partition: taken} if taken and generation == self._generation else {}

    def _left_alone(self, tp: TopicPartition, error: BaseException) -> Unreadable:
        self._unreadable[tp] = monotonic() + UNREADABLE_SECONDS
        self._let_flow(tp)
        return Unreadable((tp.topic, tp.partition), self._next.get(tp, 0), error)

    def _try_again(self) -> None:
        """With one that could not be read, when its time has come."""
        now = monotonic()
        for tp in [tp for tp, until in self._unreadable.items() if until <= now]:
            del self._unreadable[tp]
            self._suspects.append(tp)
            self._let_flow(tp)

    async def _begin(self, tp: TopicPartition) -> None:
        """The group has never been here: it starts at the earliest record."""
        async with asyncio.timeout(self._commit_seconds):
            earliest = (await self._consumer.beginning_offsets([tp]))[tp]
            if await self.commit({(tp.topic, tp.partition): earliest}):
                self._seek(tp, earliest)

    async def _rewind(self, partitions: Iterable[TopicPartition]) -> None:
        """To the first record that was not given out; aiokafka's own position may be behind it."""
        generation = self._generation
        for tp in list(partitions):
            async with asyncio.timeout(self._commit_seconds):
                offset = self._next[tp] if tp in self._next else await self._consumer.committed(tp)
            if offset is not None and generation == self._generation:
                self._next[tp] = offset
                self._seek(tp, offset)

    def _seek(self, tp: TopicPartition, offset: int) -> None:
        if tp in self._consumer.assignment():  # else a rebalance has come between
            self._consumer.seek(tp, offset)

    def _let_flow(self, tp: TopicPartition) -> None:
        """Or not, as whoever has paused it wants."""
        if tp not in self._consumer.assignment():
            return
        held = tp in self._paused or tp in self._unreadable
        (self._consumer.pause if held else self._consumer.resume)(tp)

    def _forget(self) -> None:
        """Positions and pauses are those of an assignment."""
        self._generation += 1
        self._next.clear()
        self._committed.clear()
        self._paused.clear()
        self._unreadable.clear()
        self._suspects.clear()

    def _out_of_range(self, offsets: Mapping[TopicPartition, int]) -> Halted:
        named = ", ".join(f"{tp.topic}/{tp.partition} at {at}" for tp, at in offsets.items())
        return Halted(
            f"{self._group}: the broker does not hold what comes next ({named}); it was removed"
            " before it was read, or the topic is another one; `python -m consumers skip-removed`"
            " shows what is lost, and lets it go on at what is there"
        )


def _heard(task: asyncio.Task[None]) -> None:
    """Of a commit that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
