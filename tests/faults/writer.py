"""Writer: changes a row and says so, again and again, whatever befalls its database."""

import asyncio
from contextlib import suppress
from typing import Self

import psycopg
from sqlalchemy import text

from outbox.database import Database
from outbox.errors import AlreadyHandled, Contention, DependencyDown
from schemas.envelope import Envelope
from tests.faults.history import Happened

KEYS = 12
TABLE = "CREATE TABLE things (id text PRIMARY KEY, n int NOT NULL)"
CHANGE = text("INSERT INTO things VALUES (:id, 1) ON CONFLICT (id) DO UPDATE SET n = things.n + 1")


class Writer:
    """One unit of work after another; what may or may not have happened is repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.done = 0

    @classmethod
    async def prepared(cls, database: Database, url: str) -> Self:
        """With the table that it changes."""
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute(TABLE)
        return cls(database)

    async def run(self) -> None:
        while True:
            with suppress(AlreadyHandled):
                await self._unit()
            self.done += 1

    async def _unit(self) -> None:
        cause = Envelope(f"unit-{self.done}", "/test", "faults.do.v1", "k", b"{}")
        thing = f"thing-{self.done % KEYS}"
        while True:
            try:
                async with self._database.unit_of_work("change", cause=cause) as uow:
                    await uow.connection.execute(CHANGE, {"id": thing})
                    uow.publish(Happened(thing=thing))
                    await uow.commit()
                return
            except (DependencyDown, Contention):
                await asyncio.sleep(0.05)


async def things(url: str) -> dict[str, int]:
    """How often each row says that it was changed."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        rows = await connection.execute("SELECT id, n FROM things")
        return dict(await rows.fetchall())


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
