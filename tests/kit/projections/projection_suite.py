"""What the contracts share: the public promises, items of a test's own words, and empty stores.

The promises themselves are in `consumers.projections.testing.conformance`.
"""

import hashlib
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from neo4j import AsyncDriver

from consumers.neo4j.projection import connect
from consumers.projections.projection import Change
from consumers.projections.testing.conformance import assert_shows, entry_of, read_all
from consumers.projections.testing.sample import change_to
from schemas.catalog import ItemRemoved, ItemUpserted
from stack.part import GraphPart

__all__ = [
    "CATALOG_ID",
    "DIMENSION",
    "CountingEmbedder",
    "StumblingEmbedder",
    "assert_shows",
    "empty_graph",
    "entry_of",
    "read_all",
    "removed",
    "upserted",
]

DIMENSION = 8
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


class StumblingEmbedder(CountingEmbedder):
    """Makes a vector without numbers of a text that begins so."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self._at = at

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        made = zip(texts, await super().embed(texts), strict=True)
        no_numbers = [math.nan] * DIMENSION
        return [no_numbers if text.startswith(self._at) else vector for text, vector in made]


def upserted(
    item_id: str, version: int, text: str | None = None, /, **attributes: str | bool | float
) -> Change:
    """An item as it is at this version."""
    words = text or f"{item_id} at {version}"
    event = ItemUpserted(
        catalog_id=CATALOG_ID, item_id=item_id, name=item_id, text=words, attributes=attributes
    )
    return change_to(event, version)


def removed(item_id: str, version: int) -> Change:
    """The item is gone since this version."""
    return change_to(ItemRemoved(catalog_id=CATALOG_ID, item_id=item_id), version)


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
