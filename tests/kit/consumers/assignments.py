"""An assignment over a scripted reaction and dead letters in a list, and what happens in it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

from consumers.dead_letters.redelivery import FirstLetter, Redelivery, Retried
from consumers.dead_letters.store import DeadLetter, DeadLetters
from consumers.runner.applier import Applier
from consumers.runner.assignment import Assignment, Bounds
from consumers.runner.failures import RetryBackoff
from consumers.runner.version_gaps import VersionGaps
from consumers.settings import Settings
from outbox.errors import DependencyDown
from outbox.kafka import ConsumerRecord, Partition
from schemas.envelope import Envelope
from tests.kit.consumers.work_items import TOPIC
from tests.kit.waiting import until

PARTITION = (TOPIC, 0)
ATTEMPTS = 3
WITHIN_SECONDS = 30.0


class MemoryDeadLetters(DeadLetters):
    """Dead letters in a list; writing fails while `away` is set."""

    def __init__(self) -> None:
        super().__init__(Settings(), "test")
        self.written: list[DeadLetter] = []
        self.refused = 0
        self.away = False

    async def write(self, letter: DeadLetter) -> int:
        if self.away:
            self.refused += 1
            raise DependencyDown("postgres", "planted")
        self.written.append(letter)
        return len(self.written)

    async def read_parked(self) -> set[str]:
        return {letter.stream for letter in self.written if letter.stream}


class Script:
    """A reaction that remembers the ids that it applied; `fails` returns the error of a message.

    While `held` is cleared, every call waits.
    """

    name = "test"
    topics = (TOPIC,)
    parks_keys = True

    def __init__(self, batch_messages: int = 1) -> None:
        self.batch_messages = batch_messages
        self.fails: Callable[[Envelope], Exception | None] = lambda _: None
        self.applied: list[str] = []
        self.calls: list[list[str]] = []
        self.running = 0
        self.most_running = 0
        self.held = asyncio.Event()
        self.held.set()

    async def prepare(self) -> None:
        """Do nothing."""

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        self.calls.append([envelope.id for envelope in envelopes])
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await self.held.wait()
            await asyncio.sleep(0)  # so that others run meanwhile
            for envelope in envelopes:
                if (error := self.fails(envelope)) is not None:
                    raise error
            self.applied += [envelope.id for envelope in envelopes]
        finally:
            self.running -= 1

    def of_key(self, key: str) -> list[str]:
        """Return what was applied of this key, in order."""
        return [each for each in self.applied if each.startswith(f"{key}@")]


class Bench:
    """An assignment, and everything that it asked of its surroundings."""

    def __init__(
        self, script: Script, redelivery: Redelivery, side_by_side: int, messages: int
    ) -> None:
        self.script = script
        self.letters = MemoryDeadLetters()
        self.paused: list[Partition] = []
        self.resumed: list[Partition] = []
        self.errors: list[BaseException] = []
        self.applier = Applier(script, self.letters, redelivery, ATTEMPTS, VersionGaps("test", 100))
        self.assignment = Assignment(
            self.applier,
            Bounds(script.batch_messages, side_by_side, messages, 1 << 30),
            RetryBackoff(0.001, 0.01),
            self.paused.append,
            self.resumed.append,
            self.errors.append,
        )
        self.assignment.assign([PARTITION])

    def accept(self, *records: ConsumerRecord) -> None:
        self.assignment.accept({PARTITION: records})

    def committable(self) -> int | None:
        return self.assignment.committable().get(PARTITION)

    async def finished(self) -> None:
        """Wait until everything that was accepted is applied or dead-lettered."""
        await until(self._finished, WITHIN_SECONDS, 0.001)

    async def _finished(self) -> bool:
        return self.assignment.in_flight_messages == 0


@asynccontextmanager
async def bench(
    batch: int = 1,
    side_by_side: int = 4,
    messages: int = 1_000,
    redelivery: Redelivery | None = None,
) -> AsyncIterator[Bench]:
    made = Bench(Script(batch), redelivery or MemoryRedelivery(), side_by_side, messages)
    try:
        yield made
    finally:
        made.script.held.set()
        await made.assignment.end(0)
        await made.assignment.wait_until_gone()
    assert made.errors == []


class MemoryRedelivery:
    """A Redelivery in memory that remembers how letters were settled.

    `done` and `dead` are the ids of letters that were applied or failed again; `open` are the
    letters of each key that are due.
    """

    def __init__(self) -> None:
        self.done: list[int] = []
        self.dead: list[int] = []
        self.open: dict[str, list[Retried]] = {}

    def opens(self, *retried: Retried) -> Sequence[Retried]:
        """Make these due from now on, and return them to be handed to the assignment."""
        for each in retried:
            self.open.setdefault(each.stream or "", []).append(each)
        return retried

    async def first(self, stream: str) -> FirstLetter | None:
        """The first letter that is due; a key without one waits behind a dead letter."""
        return FirstLetter(self.open[stream][0] if self.open.get(stream) else None)

    async def due(self, partitions: Collection[Partition]) -> Sequence[Retried]:
        raise NotImplementedError("the assignment is handed what is due")

    async def mark_applied(self, retried: Retried) -> bool:
        self.done.append(retried.id)
        self.open[retried.stream or ""].remove(retried)
        return not self.open[retried.stream or ""]

    async def mark_failed(self, retried: Retried, letter: DeadLetter) -> None:
        assert letter.record == retried.record
        self.dead.append(retried.id)
        self.open[retried.stream or ""].clear()
