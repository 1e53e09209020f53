"""Writer: changes a row and publishes an event of it, again and again, also after outages.

`python -m tests.kit.load.writer 17` does so from unit 17 on until it is ended, as a process that a
test can kill; a line of JSON names each unit that was acknowledged.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import psycopg
from sqlalchemy import text

from outbox.errors import AlreadyHandled, Contention, DependencyDown
from outbox.runtime import logs
from outbox.runtime.failpoints import arm
from outbox.settings import Settings
from outbox.write.database import Database
from schemas.envelope import Envelope
from tests.kit.verdicts.history import Happened

KEYS = 12
TABLE = "CREATE TABLE things (id text PRIMARY KEY, n int NOT NULL)"
CHANGE = text("INSERT INTO things VALUES (:id, 1) ON CONFLICT (id) DO UPDATE SET n = things.n + 1")


def ignore_progress(_: int) -> None:
    """Do nothing with the number of an acknowledged unit."""


class Writer:
    """Does one unit of work after another, and repeats one whose outcome is not known.

    Its units are `<name>-<number>`, from `done` on. `on_progress` gets each number that is
    acknowledged, and `refused` counts how often the database was down or chose us as its victim.
    """

    def __init__(
        self,
        database: Database,
        name: str = "unit",
        done: int = 0,
        *,
        pause_seconds: float = 0.0,
        on_progress: Callable[[int], None] = ignore_progress,
    ) -> None:
        self._database = database
        self._name = name
        self._pause_seconds = pause_seconds
        self._on_progress = on_progress
        self.done = done
        self.refused = 0

    @classmethod
    async def prepared(cls, database: Database, url: str) -> Self:
        """Return a writer, with the table that it changes in place."""
        await make_things(url)
        return cls(database)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.repeat(1)
            await asyncio.sleep(self._pause_seconds)

    async def repeat(self, units: int) -> None:
        """Do so many units; one that was done before is left as it is."""
        for _ in range(units):
            with suppress(AlreadyHandled):
                await self._unit()
            self._on_progress(self.done)
            self.done += 1

    async def _unit(self) -> None:
        cause = Envelope(f"{self._name}-{self.done}", "/test", "faults.do.v1", "k", b"{}")
        thing = f"thing-{self.done % KEYS}"
        while True:
            try:
                async with self._database.unit_of_work("change", cause=cause) as uow:
                    await uow.connection.execute(CHANGE, {"id": thing})
                    uow.publish(Happened(thing=thing))
                    await uow.commit()
                return
            except (DependencyDown, Contention):
                self.refused += 1
                await asyncio.sleep(0.05)


async def make_things(url: str) -> None:
    """Create the table that writers change."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(TABLE)


async def things(url: str) -> dict[str, int]:
    """Return how often each row says that it was changed."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        rows = await connection.execute("SELECT id, n FROM things")
        return dict(await rows.fetchall())


# A row agrees if it was changed as often as its key has messages, numbered from 1 to its head.
DISAGREE = """
    SELECT coalesce(things.id, said.id, head.id)
    FROM things
    FULL JOIN (SELECT aggregateid AS id, count(*) AS n, max(version) AS last
               FROM outbox.messages GROUP BY aggregateid) AS said ON said.id = things.id
    FULL JOIN (SELECT aggregateid AS id, version FROM outbox.streams) AS head
      ON head.id = coalesce(things.id, said.id)
    WHERE NOT coalesce(things.n = said.n AND said.n = said.last AND said.last = head.version, false)
"""


async def disagreeing(url: str) -> list[str]:
    """I1: return the keys whose row, messages and head do not say the same number of changes."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return [row[0] for row in await (await connection.execute(DISAGREE)).fetchall()]


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel the task and return once it has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def report(unit: int) -> None:
    """Write at once: lines of the log would wait in a queue, and die with this process."""
    line = json.dumps({"event": "acknowledged", "unit": unit})
    os.write(sys.stderr.fileno(), f"{line}\n".encode())


async def main(first: int) -> None:
    """Write until this process is ended."""
    settings = Settings()
    logs.configure("json", "info")
    arm(settings.failpoints)
    async with Database(settings, "writer") as database:
        writer = Writer(database, done=first, on_progress=report)
        await writer.run()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
