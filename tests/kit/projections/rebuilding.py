"""What tests of a rebuild share: items, writers that go on meanwhile, and requests."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from consumers.drift.check import CheckOptions, check_in_memory
from consumers.projections.generations import LiveProjection
from consumers.projections.projection import Projection
from consumers.rebuild.request import RebuildRequest
from consumers.settings import Settings
from outbox.operations import Operation
from schemas.catalog import ItemRemoved, ItemUpserted
from tests.kit.load.length import seconds
from tests.kit.load.seed import seed

BUSY = "busy"
SEARCHED = 300  # how many of a catalog's items have the attribute that a search filters by
PUBLISH = "SELECT outbox.publish('catalog.item', %s, %s, %s::jsonb, %s)"
MANY = """
    SELECT outbox.publish('catalog.item', key, type, payload::jsonb, false)
    FROM unnest(%s::text[], %s::text[], %s::text[]) AS event (key, type, payload)
"""
PATIENT = CheckOptions(patience_seconds=seconds(240, 3_000))

Connection = psycopg.AsyncConnection


def asked(action: str = "rebuild", *, projection: str = "qdrant", **more: object) -> RebuildRequest:
    """A request whose checks are patient enough for a busy machine."""
    operation = Operation("ann", action, projection, "a test")
    return RebuildRequest(operation, PATIENT, **more)  # type: ignore[arg-type] # the fields of RebuildRequest


def item(catalog: str, number: int, words: str) -> ItemUpserted:
    attributes: dict[str, str | bool | float] = {}
    if number < SEARCHED:
        attributes["searched"] = "yes"
    return ItemUpserted(
        catalog_id=catalog, item_id=f"i{number}", name="n", text=words, attributes=attributes
    )


def mixture(number: int) -> str:
    """A text that no other number has, so that no two items are equally near to a question."""
    return f"tower {'runway ' * (number % 25 + 1)} {'gate ' * (number // 25 % 100 + 1)}"


async def publish_items(postgres: Connection, catalog: str, number: int) -> None:
    """Publish one version of each of `number` items."""
    events = [item(catalog, n, mixture(n)) for n in range(number)]
    for start in range(0, number, 500):
        page = events[start : start + 500]
        columns = [[e.key() for e in page], [e.type for e in page]]
        await postgres.execute(MANY, [*columns, [e.payload().decode() for e in page]])


@asynccontextmanager
async def writing(settings: Settings, items: int = 50) -> AsyncIterator[list[int]]:
    """Publish versions of BUSY's items inside the block, a fifth of them deletes.

    Yields a list whose only number is how many were published so far.
    """
    rng, written = random.Random(seed(7)), [0]
    stop = asyncio.Event()

    async def write() -> None:
        url = settings.libpq_url()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while not stop.is_set():
                number = rng.randrange(items)
                await connection.execute(PUBLISH, _event(number, rng.random() < 0.2, written[0]))
                written[0] += 1
                await asyncio.sleep(0.01)

    task = asyncio.create_task(write())
    try:
        yield written
    finally:
        stop.set()
        await task


def _event(number: int, gone: bool, version: int) -> list[object]:
    if gone:
        event = ItemRemoved(catalog_id=BUSY, item_id=f"i{number}")
        return [event.key(), event.type, event.payload().decode(), True]
    put = item(BUSY, number, f"version {version} of {number}")
    return [put.key(), put.type, put.payload().decode(), False]


async def in_step(postgres: Connection, projection: Projection) -> None:
    """Assert that the projection holds exactly what the heads say."""
    difference = await check_in_memory(postgres, projection, PATIENT)
    assert difference.keys == 0, difference


async def live_number(store: LiveProjection) -> int:
    """The number of the generation that is live now."""
    return next(each.number for each in await store.generations.list_generations() if each.live)
