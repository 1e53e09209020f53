"""Load: events that are committed at a steady rate, or so many at once."""

import asyncio
from contextlib import suppress
from typing import Self

from consumers.settings import Settings
from outbox.write.database import Database
from tests.kit.verdicts.history import KEYS, Happened


class Load:
    """Commits events at a steady rate until the block ends, which raises what failed meanwhile."""

    def __init__(self, settings: Settings, per_second: float) -> None:
        self.written = 0
        self._settings = settings
        self._pause = 1 / per_second
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._writing = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        await self._writing

    async def _write(self) -> None:
        async with Database(self._settings, "load") as database:
            while not self._stopping.is_set():
                await write(database, 1, self.written)
                self.written += 1
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause):
                        await self._stopping.wait()


async def commit_events(settings: Settings, count: int) -> None:
    """Commit so many events, each in a transaction of its own."""
    async with Database(settings, "load") as database:
        await write(database, count)


async def write(database: Database, count: int, first: int = 0) -> None:
    """Commit events `first` to `first + count - 1`, each on its own; the keys take turns."""
    for number in range(first, first + count):
        async with database.unit_of_work("load") as uow:
            uow.publish(Happened(thing=f"thing-{number % KEYS}"))
            await uow.commit()
