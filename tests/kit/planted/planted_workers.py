"""Workers that share the outbox as a queue, planted to prove that the harness sees what that does.

M07: each worker takes the first rows that no other worker has locked. So two versions of one key go
to two workers, and the faster one publishes first.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import psycopg

from outbox.cursor.cut import COLUMNS, CutReader, Row
from outbox.relay.renderer import Renderer
from schemas.envelope import Envelope
from tests.kit.verdicts.readers import envelopes

DONE = "CREATE TABLE done (position bigint PRIMARY KEY)"
TAKE = f"""
    SELECT {COLUMNS.decode()} FROM outbox.messages AS message
    WHERE position > %s::bigint
      AND NOT EXISTS (SELECT FROM done WHERE done.position = message.position)
    ORDER BY position LIMIT %s::bigint FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - constants only
MARK = "INSERT INTO done SELECT unnest(%s::bigint[])"
MANY = 1_000


class SkipLockedWorkers:
    """A slow worker that keeps the row it took, and a quick one that takes the rest."""

    def __init__(
        self, slow: psycopg.AsyncConnection[Any], quick: psycopg.AsyncConnection[Any]
    ) -> None:
        self._slow = slow
        self._quick = quick
        self._held: list[Row] = []
        self._floor = 0
        self._renderer = Renderer(term=1)

    @classmethod
    @asynccontextmanager
    async def over(cls, url: str) -> AsyncIterator[Self]:
        async with (
            await psycopg.AsyncConnection.connect(url, autocommit=True) as slow,
            await psycopg.AsyncConnection.connect(url, autocommit=True) as quick,
        ):
            await slow.execute(DONE)
            for connection in (slow, quick):
                await CutReader(connection, 1, 1).prepare()
            yield cls(slow, quick)

    async def poll(self) -> list[Envelope]:
        """The slow worker takes a row, and is still busy with it: nothing is published."""
        self._held = await self._take(self._slow, 1)
        return []

    async def drain(self) -> list[Envelope]:
        rest = await self._take(self._quick, MANY)
        await self._mark(self._quick, rest)
        await self._mark(self._slow, self._held)
        rows = [*rest, *self._held]
        self._floor = max([self._floor, *(row.position for row in rows)])
        return envelopes(map(self._renderer.render, rows))

    async def _take(self, worker: psycopg.AsyncConnection[Any], limit: int) -> list[Row]:
        await worker.execute("BEGIN")
        taken = await worker.execute(TAKE.encode(), [self._floor, limit], binary=True)
        return [Row._make(row) for row in await taken.fetchall()]

    async def _mark(self, worker: psycopg.AsyncConnection[Any], rows: list[Row]) -> None:
        await worker.execute(MARK, [[row.position for row in rows]])
        await worker.execute("COMMIT")
