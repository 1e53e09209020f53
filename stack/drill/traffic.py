"""Traffic: items as programs publish them, many at once or some every second."""

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

# All messages are published in the statement's transaction. Their keys are in order, so that two
# such transactions that meet do not wait for each other in a circle.
PUBLISH = """
SELECT count(*)
FROM unnest(%(keys)s::text[], %(types)s::text[], %(payloads)s::text[], %(deletes)s::boolean[])
     AS item (key, type, payload, deletes),
     LATERAL outbox.publish('catalog.item', item.key, item.type, item.payload::jsonb, item.deletes)
"""

Connection = psycopg.AsyncConnection[Any]


def make_upsert(number: int, version: int) -> ItemUpserted:
    """Return the event that puts in the item of this number; each version has its own text."""
    chance = random.Random(f"{number}/{version}")  # noqa: S311 - repeatable, not a secret
    return ItemUpserted(
        catalog_id=f"catalog-{number // ITEMS_A_CATALOG}",
        item_id=f"item-{number}",
        name=f"Item {number}",
        text=" ".join(chance.choices(WORDS, k=6)),
        attributes={"shelf": f"{number // 10}"},
    )


def make_removal(number: int) -> ItemRemoved:
    return ItemRemoved(catalog_id=f"catalog-{number // ITEMS_A_CATALOG}", item_id=f"item-{number}")


def key_of(number: int) -> str:
    return make_upsert(number, 1).key()


async def publish(connection: Connection, events: Iterable[ItemEvent]) -> int:
    """Commit the next version of each item, and return how many there were."""
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
    """One writer that upserts and removes items one after the other until the block ends.

    It writes `per_second` items a second, and `written` counts them. An error of the writer is
    raised at the end of the block.
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
                remove = chance.random() < 0.1
                event = make_removal(number) if remove else make_upsert(number, 3)
                self.written += await publish(connection, [event])
                await asyncio.sleep(self._pause)


@dataclass(frozen=True)
class Numbers:
    """Which items there are, by number.

    The last tenth (`live`) is written while the drill goes on, and is not broken. Of the others
    (`still`) one in a hundred has two versions, and another one in a hundred is deleted.
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
