"""Runner: receive, apply, commit the offset.

Records are applied in order for each key; an offset is committed only when every record before it
is done: applied, or a dead letter in PostgreSQL. A message may be applied twice after a crash;
reactions are idempotent. Dead letters that a person retries, and what waits behind them, are redone
between fetches. Weakness: what one fetch brought is done before the next one is asked for.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import structlog

from consumers.retry import Backoff, Failure, Stopped, classify, pause, through_outages
from consumers.settings import Settings
from outbox.dead_letters import DeadLetter, DeadLetters, Retried
from outbox.errors import DependencyDown, MessageRejected
from outbox.kafka import Received, Subscriber
from schemas import wire
from schemas.envelope import Envelope

log = structlog.get_logger()


class Reaction(Protocol):
    """What a consumer does with messages."""

    @property
    def name(self) -> str:
        """Names the consumer group, its dead letters and its log lines."""

    @property
    def topics(self) -> tuple[str, ...]: ...

    @property
    def batch_messages(self) -> int:
        """How many messages `apply` takes at once; with 1, keys are worked on side by side."""

    @property
    def parks_keys(self) -> bool:
        """Whether later messages of a key wait behind a dead letter."""

    async def prepare(self) -> None:
        """Called once before the first message, through outages."""

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        """Apply all; raising leaves open which were applied."""


class Task(NamedTuple):
    """A record and what it decodes to."""

    record: Received
    envelope: Envelope

    @property
    def stream(self) -> str:
        return f"{self.record.topic}/{self.envelope.key}"


@dataclass(slots=True)
class Counts:
    """What this runner has done since it started."""

    applied: int = 0
    dead_letters: int = 0
    waiting: int = 0


class Runner:
    """Runs one reaction as a member of its consumer group."""

    def __init__(self, settings: Settings, reaction: Reaction) -> None:
        self.counts = Counts()
        self._settings = settings
        self._reaction = reaction
        self._dead_letters = DeadLetters(settings, reaction.name)
        self._backoff = Backoff(settings.backoff_first_seconds, settings.backoff_longest_seconds)
        self._stopping = asyncio.Event()
        self._side_by_side = asyncio.Semaphore(settings.keys_side_by_side)
        self._parked: set[str] = set()
        self._redo_at = 0.0  # on the monotonic clock
        self._log = log.bind(consumer=reaction.name)

    def stop(self) -> None:
        """Finish what is being applied, commit it and return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Consume until stopped; outages of any part are waited out."""
        try:
            async with self._dead_letters:
                await self._through_outages(self._reaction.prepare)
                await self._through_outages(self._load_parked)
                while not self._stopping.is_set():
                    await self._through_outages(self._subscribe)
        except Stopped:
            self._log.info("stopped while waiting")

    async def _subscribe(self) -> None:
        settings = self._settings
        async with Subscriber(
            settings.kafka_url,
            f"aftercommit.{self._reaction.name}",
            self._reaction.topics,
            settings.session_timeout_milliseconds,
            settings.max_fetch_bytes,
        ) as subscriber:
            self._log.info("consuming", topics=self._reaction.topics)
            while not self._stopping.is_set():
                await self._receive(subscriber)
                await self._through_outages(lambda: self._redo(subscriber))

    async def _receive(self, subscriber: Subscriber) -> None:
        fetched = await subscriber.receive(
            self._settings.receive_messages, self._settings.receive_wait_milliseconds
        )
        if not fetched:
            return
        await self._work_off([record for records in fetched.values() for record in records])
        await subscriber.commit(
            {partition: records[-1].offset + 1 for partition, records in fetched.items()}
        )

    async def _redo(self, subscriber: Subscriber) -> None:
        """What is due of our partitions, of each key in order; a key that fails again waits."""
        if time.monotonic() < self._redo_at:
            return
        due = await self._dead_letters.due(subscriber.assigned())
        failed: set[str | None] = set()
        for retried in due:
            if retried.stream is None or retried.stream not in failed:
                failed |= await self._redo_one(retried)
        self._redo_at = time.monotonic() + (0 if due else self._settings.retry_poll_seconds)

    async def _redo_one(self, retried: Retried) -> set[str | None]:
        """The key that goes on waiting, where it fails again."""
        record = retried.record
        try:
            task = Task(record, wire.decode(record.key, record.value, record.headers))
        except MessageRejected as error:
            letter = DeadLetter(record, retried.stream, error.reason, str(error), 1)
        else:
            buried = await self._attempts(task)
            if buried is None:
                if await self._dead_letters.applied(retried):
                    self._parked.discard(retried.stream or "")
                return set()
            letter = buried
        await self._dead_letters.failed(retried, letter)
        self._log.error("dead letter again", reason=letter.reason, offset=record.offset)
        return {retried.stream}

    async def _work_off(self, records: Sequence[Received]) -> None:
        """All partitions in one batch: writers of one process must not meet in the store."""
        tasks = [task for record in records if (task := await self._decode(record))]
        size = self._reaction.batch_messages
        if size == 1:
            await asyncio.gather(*map(self._lane, _lanes(tasks)))
        else:
            for start in range(0, len(tasks), size):
                await self._apply_batch(tasks[start : start + size])

    async def _decode(self, record: Received) -> Task | None:
        try:
            return Task(record, wire.decode(record.key, record.value, record.headers))
        except MessageRejected as error:
            key = record.key.decode(errors="replace") if record.key else None
            stream = f"{record.topic}/{key}" if key and self._reaction.parks_keys else None
            await self._bury(DeadLetter(record, stream, error.reason, str(error), 1))
            return None

    async def _lane(self, tasks: Sequence[Task]) -> None:
        """One key: in order, side by side with a bounded number of others."""
        async with self._side_by_side:
            for task in tasks:
                await self._apply_one(task)

    async def _apply_batch(self, tasks: Sequence[Task]) -> None:
        """All at once; where that fails, one by one, so that only the culprit suffers."""
        flowing = [task for task in tasks if task.stream not in self._parked]
        if len(flowing) == len(tasks):
            try:
                await self._apply(tasks)
                return
            except Exception as error:
                if isinstance(error, Stopped):
                    raise
                self._log.warning("batch failed", messages=len(tasks), error=str(error)[:300])
        for task in tasks:
            await self._apply_one(task)

    async def _apply_one(self, task: Task) -> None:
        if task.stream in self._parked:
            await self._bury(_waiting(task))
        elif (letter := await self._attempts(task)) is not None:
            await self._bury(letter)

    async def _attempts(self, task: Task) -> DeadLetter | None:
        """Apply it; the letter to be written where it cannot be."""
        waits = self._backoff.waits()
        attempt = 1
        while (error := await self._try(task)) is not None:
            if classify(error) is Failure.MESSAGE or attempt == self._settings.surprise_attempts:
                return self._letter(task, error, attempt)
            await pause(next(waits), self._stopping)
            attempt += 1
        return None

    async def _try(self, task: Task) -> Exception | None:
        try:
            await self._apply([task])
        except (Stopped, DependencyDown):
            raise
        except Exception as error:
            if classify(error) is Failure.DONE:
                return None
            self._log.warning("message failed", id=task.envelope.id, error=str(error)[:300])
            return error
        return None

    async def _apply(self, tasks: Sequence[Task]) -> None:
        envelopes = [task.envelope for task in tasks]
        await self._through_outages(lambda: self._reaction.apply(envelopes))
        self.counts.applied += len(tasks)

    def _letter(self, task: Task, error: Exception, attempts: int) -> DeadLetter:
        reason = error.reason if isinstance(error, MessageRejected) else type(error).__name__
        stream = task.stream if self._reaction.parks_keys else None
        return DeadLetter(task.record, stream, reason, str(error), attempts)

    async def _bury(self, letter: DeadLetter) -> None:
        """Durable before its offset is committed; its key waits from now on."""
        await self._through_outages(lambda: self._dead_letters.write(letter))
        if letter.stream is not None:
            self._parked.add(letter.stream)
        if letter.waiting:
            self.counts.waiting += 1
        else:
            self.counts.dead_letters += 1
            self._log.error("dead letter", reason=letter.reason, offset=letter.record.offset)

    async def _load_parked(self) -> None:
        self._parked = await self._dead_letters.parked()

    async def _through_outages(self, work: Callable[[], Awaitable[None]]) -> None:
        await through_outages(work, self._backoff, self._stopping)


def _lanes(tasks: Sequence[Task]) -> list[list[Task]]:
    lanes: dict[str, list[Task]] = {}
    for task in tasks:
        lanes.setdefault(task.stream, []).append(task)
    return list(lanes.values())


def _waiting(task: Task) -> DeadLetter:
    why = "an earlier message of this key is a dead letter"
    return DeadLetter(task.record, task.stream, "waits", why, 0, waiting=True)
