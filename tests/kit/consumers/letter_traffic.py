"""Live traffic for a ledger, and waits for what becomes of its messages and letters."""

import asyncio
from typing import Any

import psycopg

from consumers.dead_letters.listing import Letter, list_letters
from consumers.settings import Settings
from outbox.kafka import Publisher, count_unread
from tests.kit.consumers.ledger import TOPIC, Ledger, records
from tests.kit.waiting import until

WITHIN_SECONDS = 60.0
Connection = psycopg.AsyncConnection[Any]


class Traffic:
    """Sends events of some keys, version after version, each of all keys, until it is stopped."""

    def __init__(self, settings: Settings, keys: tuple[str, ...], pause_seconds: float) -> None:
        self.version = 0
        self._settings = settings
        self._keys = keys
        self._pause_seconds = pause_seconds
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        async with Publisher(self._settings.kafka_url, 30.0) as publisher:
            while not self._stopping.is_set():
                await publisher.send(records(self._keys, self.version + 1, self.version + 1))
                self.version += 1
                await asyncio.sleep(self._pause_seconds)


async def found(postgres: Connection, status: str, letters: int = 1) -> list[Letter]:
    """Wait until there are at least so many letters of that status, and return them."""
    there: list[Letter] = []

    async def enough() -> bool:
        nonlocal there
        there = [each for each in await list_letters(postgres) if each.status == status]
        return len(there) >= letters

    await until(enough, WITHIN_SECONDS)
    return there


async def all_closed(postgres: Connection) -> None:
    """Wait until no letter is open."""

    async def none() -> bool:
        return not await list_letters(postgres)

    await until(none, WITHIN_SECONDS)


async def all_read(settings: Settings) -> None:
    """Wait until the ledger has committed every record."""

    async def none() -> bool:
        return await count_unread(settings.kafka_url, "aftercommit.ledger", [TOPIC]) == 0

    await until(none, WITHIN_SECONDS)


async def shown(ledger: Ledger, key: str, version: int) -> None:
    """Wait until that version of the key, or a later one, is applied."""

    async def there() -> bool:
        return max(ledger.versions()[key], default=0) >= version

    await until(there, WITHIN_SECONDS, 0.02)


async def until_lines(ledger: Ledger, lines: int) -> None:
    """Wait until so many messages are applied."""

    async def there() -> bool:
        return len(ledger.lines()) >= lines

    await until(there, WITHIN_SECONDS, 0.02)
