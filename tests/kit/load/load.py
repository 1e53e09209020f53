"""Load: events that are committed at a steady rate, or so many at once."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from consumers.settings import Settings
from outbox.write.database import Database
from schemas.envelope import Event
from tests.kit.verdicts.history import KEYS, Happened

EventOf = Callable[[int], Event]


def happened(number: int) -> Event:
    """Return an event; the keys take turns."""
    return Happened(thing=f"thing-{number % KEYS}")


class Load:
    """Commits events at a steady rate until the block ends, which raises what failed meanwhile.

    `event_of` makes the event of each number; `written` counts them.
    """

    def __init__(self, settings: Settings, per_second: float, event_of: EventOf = happened) -> None:
        self.written = 0
        self._settings = settings
        self._pause = 1 / per_second
        self._event_of = event_of
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
                await write(database, self._event_of(self.written))
                self.written += 1
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause):
                        await self._stopping.wait()


async def commit_events(settings: Settings, count: int) -> None:
    """Commit so many events, each in a transaction of its own."""
    async with Database(settings, "load") as database:
        for number in range(count):
            await write(database, happened(number))


async def write(database: Database, event: Event) -> None:
    """Commit one event."""
    async with database.unit_of_work("load") as uow:
        uow.publish(event)
        await uow.commit()
