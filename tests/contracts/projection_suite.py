"""What every projection promises, as checks that any implementation can be given to.

A check takes an empty, prepared projection of the catalog's items and fails if a promise is broken.
"""

import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
from neo4j import AsyncDriver

from consumers.neo4j import connect
from consumers.projection import Change, Entry, Projection, StreamKey, latest
from schemas.catalog import ItemEvent, ItemRemoved, ItemUpserted
from schemas.envelope import digest
from stack.part import GraphPart

Check = Callable[[Projection], Awaitable[None]]

DIMENSION = 8
WRITERS = 16
HIGHEST = 6
CATALOG_ID = "suite"


class CountingEmbedder:
    """A port fake: a vector from a text's hash; `texts` is everything that it was asked for."""

    dimension = DIMENSION

    def __init__(self, model: str = "hash-1") -> None:
        self.model = model
        self.texts: list[str] = []
        self.calls = 0

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.calls += 1
        self.texts += texts
        return [[byte / 255 for byte in hashlib.sha256(t.encode()).digest()[:8]] for t in texts]


def upserted(
    item_id: str, version: int, text: str | None = None, /, **attributes: str | bool | float
) -> Change:
    """An item as it is at this version."""
    words = text or f"{item_id} at {version}"
    event = ItemUpserted(
        catalog_id=CATALOG_ID, item_id=item_id, name=item_id, text=words, attributes=attributes
    )
    return _change(event, version)


def removed(item_id: str, version: int) -> Change:
    """The item is gone since this version."""
    return _change(ItemRemoved(catalog_id=CATALOG_ID, item_id=item_id), version)


def _change(event: ItemEvent, version: int) -> Change:
    return Change(
        stream=StreamKey(event.aggregate, event.key()),
        version=version,
        event_id=f"{event.key()}@{version}",
        digest=digest(event.payload()),
        deleted=event.deletes,
        event=event,
    )


def entry(change: Change) -> Entry:
    """What a store shows after this change."""
    return Entry(change.stream, change.version, change.digest, change.deleted)


@asynccontextmanager
async def empty_graph(part: GraphPart) -> AsyncIterator[AsyncDriver]:
    """A driver of the part's graph, after every node in it was deleted; constraints may be there.

    Neo4j takes a second for a new constraint, so that a graph keeps those that it has.
    """
    async with connect(part.url, part.user, part.password.get_secret_value()) as driver:
        await driver.execute_query("MATCH (n) DETACH DELETE n", database_=part.database)
        yield driver


async def drop_constraints(driver: AsyncDriver, database: str) -> None:
    """As if no projection had ever been prepared there."""
    run = partial(driver.execute_query, database_=database)
    for record in (await run("SHOW CONSTRAINTS YIELD name")).records:
        await run(f"DROP CONSTRAINT {record['name']}")


async def scanned(projection: Projection) -> dict[StreamKey, Entry]:
    """All that the store shows; a key that comes twice is a broken promise."""
    found = [entry async for entry in projection.scan()]
    by_key = {entry.stream: entry for entry in found}
    assert len(by_key) == len(found), "scan() showed a key twice"
    return by_key


async def assert_shows(projection: Projection, expected: Iterable[Change]) -> None:
    """The store shows exactly these heads, in its scan and when asked by key."""
    wanted = {change.stream: entry(change) for change in expected}
    assert await scanned(projection) == wanted
    assert await projection.versions(list(wanted)) == wanted


async def ends_at_the_highest(projection: Projection, batches: Iterable[Sequence[Change]]) -> None:
    """Whatever the order, the repeats and the cuts: each key ends at its highest version."""
    history = [list(batch) for batch in batches]
    for batch in history:
        await projection.apply(batch)
    await assert_shows(projection, latest(change for batch in history for change in batch))


async def applying_again_changes_nothing(projection: Projection) -> None:
    changes = [upserted("a", 1), upserted("b", 3), removed("c", 2)]
    await projection.apply(changes)
    await projection.apply(changes)
    await projection.apply([])
    await assert_shows(projection, changes)


async def batches_equal_singles(projection: Projection) -> None:
    """A batch with several versions of a key, in any order, is what its singles are."""
    batch = [
        upserted("a", 2),
        upserted("a", 3),
        upserted("a", 1),
        removed("b", 2),
        upserted("b", 1),
    ]
    singles = [upserted(f"{c.stream.key[-1]}-single", c.version) for c in batch[:3]]
    await projection.apply(batch)
    for change in singles:
        await projection.apply([change])
    await assert_shows(projection, [*latest(batch), *latest(singles)])


async def scan_equals_what_was_applied(projection: Projection) -> None:
    """Across the pages of a scan and the chunks of an apply, tombstones included."""
    changes = [upserted(f"i{n:04}", n + 1) for n in range(1100)]
    changes += [removed(f"r{n:04}", n + 2) for n in range(50)]
    await projection.apply(changes)
    await assert_shows(projection, changes)


async def a_late_write_does_not_resurrect(projection: Projection) -> None:
    gone = removed("a", 5)
    await projection.apply([upserted("a", 1)])
    await projection.apply([gone])
    for version in (4, 5, 1):
        await projection.apply([upserted("a", version)])
    await assert_shows(projection, [gone])


async def a_delete_can_come_first_and_be_outlived(projection: Projection) -> None:
    """A tombstone without a predecessor counts, and a higher version brings the key back."""
    await projection.apply([removed("a", 2)])
    await projection.apply([upserted("a", 1)])
    await assert_shows(projection, [removed("a", 2)])
    await projection.apply([upserted("a", 3)])
    await assert_shows(projection, [upserted("a", 3)])


async def unknown_keys_have_no_version(projection: Projection) -> None:
    await projection.apply([upserted("a", 1)])
    unknown = StreamKey(ItemEvent.aggregate, f"{CATALOG_ID}/none")
    assert await projection.versions([unknown]) == {}
    assert await projection.versions([]) == {}


async def concurrent_writers_end_at_the_highest(projection: Projection) -> None:
    """16 writers, each with all versions of one key in an order of its own, side by side."""
    async with anyio.create_task_group() as group:
        for seed in range(WRITERS):
            group.start_soon(_write_shuffled, projection, random.Random(seed))
    await assert_shows(projection, [upserted("a", HIGHEST)])


async def _write_shuffled(projection: Projection, chance: random.Random) -> None:
    """Nobody ends with the highest version: without a fence the store surely ends lower."""
    order = chance.sample(range(1, HIGHEST), HIGHEST - 1)
    order.insert(chance.randrange(len(order)), HIGHEST)
    for version in order:
        await projection.apply([upserted("a", version)])


CHECKS: tuple[Check, ...] = (
    applying_again_changes_nothing,
    batches_equal_singles,
    scan_equals_what_was_applied,
    a_late_write_does_not_resurrect,
    a_delete_can_come_first_and_be_outlived,
    unknown_keys_have_no_version,
    concurrent_writers_end_at_the_highest,
)
