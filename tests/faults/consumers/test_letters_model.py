"""Dead letters against a model: the order of a key holds, whatever operators and crashes do.

Fault rows C12, C13. A script of deliveries, refusals, retries, discards, crashes and rewinds runs
against the key queues of a runner and the letters in PostgreSQL; Kafka is a list. It tests both
policies: a key waits behind its dead letter, or the letter is skipped.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from consumers.dead_letters.listing import LetterSelection, LetterStatus, list_letters
from consumers.dead_letters.repair import discard, retry
from consumers.dead_letters.store import DeadLetters
from consumers.runner.applier import Applier
from consumers.runner.assignment import Assignment, Bounds
from consumers.runner.failures import RetryBackoff
from consumers.settings import Settings
from outbox.errors import build_rejection
from outbox.kafka import ConsumerRecord
from outbox.operations import Operation
from schemas.envelope import Envelope
from schemas.wire import encode
from tests.kit.consumers.ledger import TOPIC, event, first_occurrences
from tests.kit.consumers.letters import no_kafka as no_kafka
from tests.kit.load.length import times

PARTITION = (TOPIC, 0)
KEYS = ("a", "b")
BOUNDS = Bounds(3, 1, 1_000, 1 << 20)
EXAMPLES = times(40, 2_000)


@dataclass
class Book:
    """A reaction that refuses some messages and remembers what it applied, as `offset + 1`."""

    parks_keys: bool
    refused: set[int] = field(default_factory=set)
    applied: list[int] = field(default_factory=list)
    name: str = field(default_factory=lambda: secrets.token_hex(6))
    topics = (TOPIC,)
    batch_messages = 3

    async def prepare(self) -> None:
        """Nothing to prepare."""

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        await asyncio.sleep(0)
        offsets = [envelope.sequence or 0 for envelope in envelopes]
        if self.refused.intersection(offsets):
            raise build_rejection("refused", "sequence", "must not be one that the script refuses")
        self.applied += offsets


class World:
    """One run of a script; each step is a method, and no step waits for what it began."""

    def __init__(self, settings: Settings, connection: psycopg.AsyncConnection[Any], book: Book):
        self.book = book
        self.log: list[ConsumerRecord] = []
        self._connection = connection
        self._letters = DeadLetters(settings, book.name)
        self._selection = LetterSelection(consumer=book.name)
        self._errors: list[BaseException] = []
        self._start = 0  # the offset from which the assignment was fed

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._assignment.end(0)
        await self._assignment.wait_until_gone()
        await self._letters.__aexit__()

    async def deliver(self, key: str) -> None:
        offset = len(self.log)
        raw, value, headers = encode(event(key, offset + 1))
        self.log.append(ConsumerRecord(TOPIC, 0, offset, raw, value, tuple(headers), 0))
        self._assignment.accept({PARTITION: self.log[-1:]})

    async def refuse_next(self, key: str) -> None:
        self.book.refused.add(len(self.log) + 1)
        await self.deliver(key)

    async def refuse_old(self, key: str) -> None:
        """Refuse the key's first message from now on, as a new rule would; it may come again."""
        sent = [each.offset + 1 for each in self.log if each.key == key.encode()]
        self.book.refused.update(sent[:1])

    async def mend(self, _: str) -> None:
        self.book.refused.clear()

    async def retry(self, key: str) -> None:
        await retry(self._connection, self._of(key), Operation("model", "retry", key, "script"))

    async def discard(self, key: str) -> None:
        await discard(self._connection, self._of(key), Operation("model", "discard", key, "script"))

    async def redeliver(self, _: str) -> None:
        self._assignment.redeliver(await self._letters.due([PARTITION]))

    async def rest(self, _: str) -> None:
        while not self._assignment.is_gone:
            await self._assignment.wait_until_gone()
            await asyncio.sleep(0)
        assert self._errors == []

    async def crash(self, _: str) -> None:
        """Give up what runs at this moment; the next assignment reads from the committed offset."""
        await self._assignment.end(0)
        await self._assignment.wait_until_gone()
        await self._feed(self._assignment.committable().get(PARTITION, self._start))

    async def restart(self, _: str) -> None:
        """Crash when everything that was begun is done."""
        await self.rest("")
        await self.crash("")

    async def rewind(self, _: str) -> None:
        """Set the group's offset back to the start, so that everything comes again."""
        await self._assignment.end(0)
        await self._assignment.wait_until_gone()
        await self._feed(0)

    async def finish(self) -> None:
        """Mend everything, and retry until no letter is open."""
        await self.rest("")
        await self.mend("")
        while await list_letters(self._connection, self._selection):
            await retry(self._connection, self._selection, Operation("m", "retry", "all", "end"))
            await self.redeliver("")
            await self.rest("")

    async def offsets(self, *statuses: LetterStatus) -> set[int]:
        rows = await list_letters(self._connection, self._selection, statuses=statuses, limit=999)
        return {letter.offset + 1 for letter in rows}

    async def _feed(self, offset: int) -> None:
        await self._begin()
        self._start = offset
        if offset < len(self.log):
            self._assignment.accept({PARTITION: self.log[offset:]})

    async def _begin(self) -> None:
        applier = Applier(self.book, self._letters, self._letters, unexpected_error_attempts=2)
        await applier.load_parked()
        backoff = RetryBackoff(0.001, 0.01)
        nothing = lambda _: None  # noqa: E731 - nobody to pause
        self._assignment = Assignment(
            applier, BOUNDS, backoff, nothing, nothing, self._errors.append
        )
        self._assignment.assign([PARTITION])

    def _of(self, key: str) -> LetterSelection:
        return LetterSelection(consumer=self.book.name, key=key)


async def require_right(world: World) -> None:
    """I12: each message was applied, is open or was discarded; and the order of each key held."""
    everything = set(range(1, len(world.log) + 1))
    open_ones = await world.offsets(LetterStatus.DEAD, LetterStatus.WAITING, LetterStatus.RETRYING)
    discarded = await world.offsets(LetterStatus.DISCARDED)
    assert set(world.book.applied) | open_ones | discarded == everything
    if world.book.parks_keys:
        for key in KEYS:
            require_order(world, key, discarded)


def require_order(world: World, key: str, discarded: set[int]) -> None:
    sent = [each.offset + 1 for each in world.log if each.key == key.encode()]
    first = first_occurrences(n for n in world.book.applied if n in sent and n not in discarded)
    assert first == sorted(first)
    earlier = [n for n in sent if n not in discarded and n <= max(first, default=0)]
    assert first == earlier, "a message was applied before one that is still a letter"


STEPS = (
    "deliver", "deliver", "refuse_next", "refuse_next", "refuse_old", "mend", "retry", "discard",
    "redeliver", "redeliver", "rest", "crash", "restart", "restart", "rewind",
)  # fmt: skip
SCRIPTS = st.lists(
    st.tuples(st.sampled_from(STEPS), st.sampled_from(KEYS)), min_size=9, max_size=45
)


@pytest.mark.parametrize("parks_keys", [True, False], ids=["halt-key", "skip-to-letter"])
def test_whatever_happens_the_order_of_a_key_holds_and_no_message_is_lost(
    settings: Settings, *, parks_keys: bool
) -> None:
    """C12, C13, I12: with both policies."""

    @examples(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(script=SCRIPTS)
    def holds(script: list[tuple[str, str]]) -> None:
        asyncio.run(run(settings, script, Book(parks_keys)))

    holds()


async def run(settings: Settings, script: list[tuple[str, str]], book: Book) -> None:
    async with (
        await psycopg.AsyncConnection.connect(settings.libpq_url(), autocommit=True) as connection,
        World(settings, connection, book) as world,
    ):
        for step, key in script:
            await getattr(world, step)(key)
        await world.rest("")
        await require_right(world)
        await world.finish()
        await require_right(world)
