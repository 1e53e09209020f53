"""Interleavings: two writers of six steps and a relay that looks once, in every order there is.

There are 924 orders of the steps, and 13 moments for the look. Where a step needs the stream head
that the other writer holds, it is sent and waits inside PostgreSQL; the later steps of that writer
follow once the other one has committed. So an order that the lock forbids becomes the nearest one
that it allows. No clock is needed: it is known who holds the head.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, Self

import psycopg

from outbox.cursor.cut import PLANS
from schemas.envelope import Envelope
from tests.kit.load.schedules import MOMENTS, Schedule, Tally
from tests.kit.load.units import SCHEMA, STEPS, Connection, Keys, Unit
from tests.kit.verdicts.history import Seen, judge

# One snapshot shows what a crash at this moment would leave. It counts the keys whose row, head and
# messages disagree.
TORN = """
SELECT count(*) FROM (
    SELECT key,
        (SELECT version FROM outbox.streams
         WHERE aggregatetype = 'faults.thing' AND aggregateid = key COLLATE "C") AS head,
        (SELECT said FROM things WHERE id = key) AS said,
        ARRAY(SELECT version FROM outbox.messages
              WHERE position > %(floor)s AND aggregateid = key ORDER BY version) AS versions
    FROM unnest(%(keys)s::text[]) AS key
) AS stream
WHERE (key <> %(shared)s AND said IS DISTINCT FROM head)
   OR versions <> ARRAY(SELECT generate_series(1::bigint, coalesce(head, 0)))
"""
FLOOR = "SELECT nextval('outbox.positions')"  # everything of this schedule is above
WAITS = "SELECT cardinality(pg_blocking_pids(%s)) > 0"


class Reader(Protocol):
    """What is tested: it publishes what it finds."""

    async def poll(self) -> Iterable[Envelope]:
        """Look once, while writers write; return what was published, in its order."""

    async def drain(self) -> Iterable[Envelope]:
        """Look until nothing is left; return what was published, in its order."""


class Writer:
    """One of the two writers, and how far it is with its unit."""

    def __init__(self, connection: Connection, unit: Unit) -> None:
        self.connection = connection
        self.unit = unit
        self.start(Keys("", ""))

    def start(self, keys: Keys) -> None:
        self.keys = keys
        self.done = self.due = self.repeated = 0
        self.waiting: asyncio.Task[object] | None = None

    @property
    def holds_head(self) -> bool:
        return self.unit.locks <= self.done < STEPS

    @property
    def needs_head(self) -> bool:
        return self.done + 1 == self.unit.locks

    def send(self) -> asyncio.Task[object]:
        """Send the next step, or return the one that is waiting already."""
        if self.waiting is None:
            step = self.unit.steps[self.done]
            self.waiting = asyncio.ensure_future(step(self.connection, self.keys))
        return self.waiting

    async def step(self) -> None:
        """Do the next step; begin anew where PostgreSQL cannot serialize the unit."""
        try:
            await self.send()
            self.done += 1
        except psycopg.errors.SerializationFailure:
            await self.connection.execute("ROLLBACK")
            self.repeated += 1
            self.done = 0
        self.waiting = None


class Turns:
    """Lets the writers take turns; `order` is who took a step, in the order that came of it."""

    def __init__(
        self, writers: Sequence[Writer], waits: Callable[[Writer], Awaitable[None]]
    ) -> None:
        self._writers = writers
        self._waits = waits
        self.order = ""

    async def turn(self, number: int) -> None:
        """Let this writer do its next step, then the other one what it has been waiting for."""
        self._writers[number].due += 1
        await self._go_on(number)
        await self._go_on(1 - number)

    async def end(self) -> None:
        """Until both have committed."""
        while any(writer.done < STEPS for writer in self._writers):
            await self._go_on(0)
            await self._go_on(1)

    async def _go_on(self, number: int) -> None:
        writer, other = self._writers[number], self._writers[1 - number]
        while writer.done < writer.due:
            is_next = other.waiting is not None and writer.waiting is None
            if writer.needs_head and (other.holds_head or is_next):
                if writer.waiting is None:
                    await self._waits(writer)
                return
            await writer.step()
            self.order += "AB"[number]


class Sweep:
    """Runs schedules, each with keys of its own, and judges what the reader made of them."""

    def __init__(self, observer: Connection, writers: Sequence[Writer], reader: Reader) -> None:
        self._observer = observer
        self._writers = writers
        self._reader = reader
        self.tally = Tally()

    @classmethod
    @asynccontextmanager
    async def over(
        cls, url: str, units: tuple[Unit, Unit], reader: Reader, isolation: str = "read committed"
    ) -> AsyncIterator[Self]:
        """Yield a sweep over a migrated database that nobody else writes to."""
        async with (
            await psycopg.AsyncConnection.connect(url, autocommit=True) as observer,
            await psycopg.AsyncConnection.connect(url, autocommit=True) as a,
            await psycopg.AsyncConnection.connect(url, autocommit=True) as b,
        ):
            await observer.execute(SCHEMA)
            await observer.execute(PLANS, {"local": False})
            for connection in (a, b):
                setting = "SELECT set_config('default_transaction_isolation', %s, false)"
                await connection.execute(setting, [isolation])
            yield cls(observer, [Writer(a, units[0]), Writer(b, units[1])], reader)

    async def run(self, schedules: Iterable[Schedule]) -> Tally:
        for schedule in schedules:
            await self._run(schedule)
        return self.tally

    async def _run(self, schedule: Schedule) -> None:
        number = self.tally.schedules
        await self._start(number)
        turns = Turns(self._writers, self._waits)
        seen, torn, before = Seen(), 0, 0
        for moment in range(MOMENTS):
            if moment == schedule.moment:
                before = len(turns.order)
                torn += await self._look(seen, await self._reader.poll())
            if moment < 2 * STEPS:
                await turns.turn("AB".index(schedule.order[moment]))
        await turns.end()
        torn += await self._look(seen, await self._reader.drain())
        self.tally.add(schedule, judge(self._truth(), seen), torn)
        self.tally.legal.add(Schedule(turns.order, before))
        self.tally.repeated += sum(writer.repeated for writer in self._writers)

    async def _start(self, number: int) -> None:
        shared = f"shared-{number}"
        for name, writer in zip("ab", self._writers, strict=True):
            writer.start(Keys(f"{name}-{number}", shared))
        row = await (await self._observer.execute(FLOOR, prepare=True)).fetchone()
        assert row is not None
        keys = [shared, *(writer.keys.own for writer in self._writers)]
        self._parameters = {"keys": keys, "shared": shared, "floor": row[0]}

    async def _look(self, seen: Seen, envelopes: Iterable[Envelope]) -> int:
        """Note what was published, and return how many keys are torn."""
        for envelope in envelopes:
            seen.add(envelope, partition=0)
        row = await (await self._observer.execute(TORN, self._parameters, prepare=True)).fetchone()
        assert row is not None
        return int(row[0])

    async def _waits(self, writer: Writer) -> None:
        """Return once the step that was sent waits in PostgreSQL, or proves not to."""
        pid, sent = writer.connection.info.backend_pid, writer.send()
        while not sent.done():
            row = await (await self._observer.execute(WAITS, [pid], prepare=True)).fetchone()
            if row is not None and row[0]:
                self.tally.waited += 1
                return

    def _truth(self) -> set[tuple[str, int]]:
        """Return what two committed units have published, whatever the tables show."""
        shared = sum(writer.unit.shared for writer in self._writers)
        truth = {(self._writers[0].keys.shared, n) for n in range(1, shared + 1)}
        for writer in self._writers:
            truth |= {(writer.keys.own, n) for n in range(1, writer.unit.own + 1)}
        return truth
