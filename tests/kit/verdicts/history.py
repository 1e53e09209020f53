"""History: what writers committed, what a subscriber saw, and what that says about the relay.

The writers do all that can make a relay wrong: they take their transaction id early, wait, lock
keys in any order, roll back, and roll back savepoints. Some use UnitOfWork, some plain SQL.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar

import psycopg

from consumers.settings import Settings
from outbox.kafka import Subscriber
from outbox.write.database import Database
from schemas.envelope import Envelope, Event
from schemas.wire import decode

KEYS = 24
TOPIC = "faults.thing.events"


class Happened(Event):
    type: ClassVar[str] = "faults.happened.v1"
    topic: ClassVar[str] = TOPIC
    aggregate: ClassVar[str] = "faults.thing"

    thing: str

    def key(self) -> str:
        return self.thing


class UndoneError(Exception):
    """Raised to roll something back."""


@dataclass(frozen=True)
class Verdict:
    """What was wrong; every number but `committed` is zero if the relay is right.

    `doubled` counts the messages that one term sent twice, which only a fault explains. A machine
    that is too busy may end a term by itself, and the next term repeats what was not yet recorded.
    `altered` counts the messages that came again under another id or with other bytes.
    """

    committed: int
    lost: int
    doubled: int
    reordered: int
    ghosts: int
    altered: int = 0

    @property
    def right(self) -> bool:
        return self.lost == self.doubled == self.reordered == self.ghosts == self.altered == 0

    @property
    def at_least_once(self) -> bool:
        """I2-I5: what is promised when something fails; an unaltered duplicate is allowed."""
        return replace(self, doubled=0).right


@dataclass
class Seen:
    """Every (key, version) in the order of its first occurrence, and how often it came."""

    order: list[tuple[str, int]] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)  # key and partition
    times: Counter[tuple[str, int]] = field(default_factory=Counter)
    altered: int = 0
    repeated: set[tuple[str, int]] = field(default_factory=set)  # sent twice by one term
    terms: list[tuple[int, int, bool]] = field(default_factory=list)  # partition, term, new
    _first: dict[tuple[str, int], tuple[str, bytes | None]] = field(default_factory=dict)
    _sent: set[tuple[tuple[str, int], int]] = field(default_factory=set)  # by which terms

    def add(self, envelope: Envelope, partition: int) -> None:
        assert envelope.sequence is not None
        self.places.append((envelope.key, partition))
        message = (envelope.key, envelope.sequence)
        content = (envelope.id, envelope.payload)
        self.altered += self._first.setdefault(message, content) != content
        self._note_term(message, partition, envelope.term or 0)
        if not self.times[message]:
            self.order.append(message)
        self.times[message] += 1

    def _note_term(self, message: tuple[str, int], partition: int, term: int) -> None:
        self.terms.append((partition, term, not self.times[message]))
        if (message, term) in self._sent:
            self.repeated.add(message)
        self._sent.add((message, term))

    @property
    def copies(self) -> int:
        """How many records are duplicates."""
        return self.times.total() - len(self.times)

    def copies_by_term(self) -> Counter[int]:
        """Return how many duplicates came in each term, and so after the end of the one before."""
        return Counter(term for _, term, new in self.terms if not new)

    def last_term(self) -> int:
        return max((term for _, term, _ in self.terms), default=0)

    def stale(self, *, only_new: bool = False) -> int:
        """Count the records of a term that came behind a later term's in their partition.

        With `only_new` duplicates are not counted.
        """
        highest: dict[int, int] = {}
        wrong = 0
        for partition, term, new in self.terms:
            wrong += term < highest.get(partition, 0) and (new or not only_new)
            highest[partition] = max(term, highest.get(partition, 0))
        return wrong

    def reordered(self) -> int:
        """Count the first occurrences that came after a higher version of their key."""
        highest: dict[str, int] = {}
        wrong = 0
        for key, version in self.order:
            wrong += version < highest.get(key, 0)
            highest[key] = max(version, highest.get(key, 0))
        return wrong


COMMITTED = "SELECT aggregateid, version FROM outbox.messages WHERE topic = %s"


async def committed(url: str, topic: str = TOPIC) -> set[tuple[str, int]]:
    """Return the truth: this topic's message rows of all committed transactions."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        rows = await connection.execute(COMMITTED, [topic])
        return {(key, version) for key, version in await rows.fetchall()}


def judge(truth: set[tuple[str, int]], seen: Seen) -> Verdict:
    return Verdict(
        committed=len(truth),
        lost=len(truth - seen.times.keys()),
        doubled=len(seen.repeated),
        reordered=seen.reordered(),
        ghosts=len(seen.times.keys() - truth),
        altered=seen.altered,
    )


async def subscribe(settings: Settings, seen: Seen, topics: Sequence[str] = (TOPIC,)) -> None:
    """Add every record of the topics to `seen`, until cancelled."""
    async with Subscriber(settings.kafka_url, "history", topics, 6_000, 1 << 22) as subscriber:
        while True:
            fetched = await subscriber.receive(5_000, 50)
            for records in fetched.values():
                for record in records:
                    seen.add(decode(record.key, record.value, record.headers), record.partition)


async def write(settings: Settings, transactions: int, seed: int) -> None:
    """Commit by eight writers at once, half through UnitOfWork and half in plain SQL."""
    each = transactions // 8
    async with Database(settings, "writer") as database:
        python = [_write_by_unit_of_work(database, each, seed * 8 + n) for n in range(4)]
        sql = [_write_by_sql(settings, each, seed * 8 + n) for n in range(4, 8)]
        await asyncio.gather(*python, *sql)


async def _write_by_unit_of_work(database: Database, transactions: int, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(transactions):
        cause = Envelope(f"{seed}-{number}", "/test", "faults.do.v1", "k", b"{}")
        with suppress(UndoneError):
            await database.retry_on_contention(lambda: _run_unit(database, cause, rng))  # noqa: B023 - awaited at once


async def _run_unit(database: Database, cause: Envelope, rng: random.Random) -> None:
    """Publish some events; the receipt takes the transaction id early, the key's lock is last."""
    async with database.unit_of_work("write", cause=cause) as uow:
        await asyncio.sleep(rng.choice((0, 0, 0.002)))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            uow.publish(Happened(thing=_draw_key(rng)))
        if rng.random() < 0.2:
            with suppress(UndoneError):
                async with uow.savepoint():
                    uow.publish(Happened(thing=_draw_key(rng)))
                    raise UndoneError
        if rng.random() < 0.1:
            raise UndoneError
        await uow.commit()


PUBLISH = """SELECT outbox.publish('faults.thing', %s, 'faults.happened.v1',
                                   jsonb_build_object('thing', %s::text))"""


async def _write_by_sql(settings: Settings, transactions: int, seed: int) -> None:
    rng = random.Random(seed)
    async with await psycopg.AsyncConnection.connect(settings.libpq_url()) as connection:
        for _ in range(transactions):
            with suppress(UndoneError):
                async with connection.transaction():
                    await _run_transaction(connection, rng)


async def _run_transaction(connection: psycopg.AsyncConnection, rng: random.Random) -> None:
    await connection.execute("SELECT pg_current_xact_id()")
    await asyncio.sleep(rng.choice((0, 0, 0.002)))
    if rng.random() < 0.2:
        with suppress(UndoneError):
            async with connection.transaction():
                await connection.execute(PUBLISH, [key := _draw_key(rng), key])
                raise UndoneError
    await connection.execute(PUBLISH, [key := _draw_key(rng), key])
    if rng.random() < 0.1:
        raise UndoneError


def _draw_key(rng: random.Random) -> str:
    return f"thing-{rng.randrange(KEYS)}"


@asynccontextmanager
async def unrelated_transactions(*urls: str) -> AsyncIterator[None]:
    """Hold a transaction open that has written, in each of these databases."""
    connections = [await psycopg.AsyncConnection.connect(url) for url in urls]
    for connection in connections:
        await connection.execute("CREATE TABLE unrelated (x int)")
    try:
        yield
    finally:
        for connection in connections:
            await connection.rollback()
            await connection.close()
