"""Traffic: items as programs publish them: many at once, or so many a second."""

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import psycopg

from consumers.settings import Settings
from outbox.postgres.connection import connect
from schemas.catalog import ItemEvent, ItemRemoved, ItemUpserted

ITEMS_A_CATALOG = 100
WORDS = ("runway", "tower", "apron", "hangar", "taxiway", "beacon", "terminal", "windsock")

# Each message in the statement's transaction; keys in order, as two of these may meet.
PUBLISH = """
SELECT count(*)
FROM unnest(%(keys)s::text[], %(types)s::text[], %(payloads)s::text[], %(deletes)s::boolean[])
     AS item (key, type, payload, deletes),
     LATERAL outbox.publish('catalog.item', item.key, item.type, item.payload::jsonb, item.deletes)
"""

Connection = psycopg.AsyncConnection[Any]


def upserted(number: int, version: int) -> ItemUpserted:
    """The item of this number; another version has another text."""
    chance = random.Random(f"{number}/{version}")  # noqa: S311 - repeatable, not a secret
    return ItemUpserted(
        catalog_id=f"catalog-{number // ITEMS_A_CATALOG}",
        item_id=f"item-{number}",
        name=f"Item {number}",
        text=" ".join(chance.choices(WORDS, k=6)),
        attributes={"shelf": f"{number // 10}"},
    )


def removed(number: int) -> ItemRemoved:
    return ItemRemoved(catalog_id=f"catalog-{number // ITEMS_A_CATALOG}", item_id=f"item-{number}")


def key_of(number: int) -> str:
    return upserted(number, 1).key()


async def publish(connection: Connection, events: Iterable[ItemEvent]) -> int:
    """Commit the next version of each; how many there were."""
    ordered = sorted(events, key=lambda event: event.key())
    parameters = {
        "keys": [event.key() for event in ordered],
        "types": [event.type for event in ordered],
        "payloads": [event.payload().decode() for event in ordered],
        "deletes": [event.deletes for event in ordered],
    }
    await connection.execute(PUBLISH, parameters)
    return len(ordered)


class Writers:
    """Write one item after the other, so many a second, until stopped: upserts and removals.

    `async with` stops them at its end. `written` counts; an error of theirs fails the block.
    """

    def __init__(self, settings: Settings, numbers: Sequence[int], per_second: float) -> None:
        self.written = 0
        self._settings = settings
        self._numbers = numbers
        self._pause = 1 / per_second
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _write(self) -> None:
        chance = random.Random("writers")  # noqa: S311 - repeatable, not a secret
        async with await connect(self._settings, "writer") as connection:
            while not self._stopping.is_set():
                number = chance.choice(self._numbers)
                event = removed(number) if chance.random() < 0.1 else upserted(number, 3)
                self.written += await publish(connection, [event])
                await asyncio.sleep(self._pause)


@dataclass(frozen=True)
class Numbers:
    """Which items there are: every tenth part is written while the drill goes on, and is not
    broken; a hundredth of the others has two versions, and another one is deleted.
    """

    still: range
    live: range

    @classmethod
    def of(cls, keys: int) -> "Numbers":
        return cls(range(keys - keys // 10), range(keys - keys // 10, keys))

    @property
    def twice(self) -> range:
        return self.still[::100]

    @property
    def deleted(self) -> range:
        return self.still[50::100]
