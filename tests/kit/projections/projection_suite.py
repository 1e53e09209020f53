"""Items with words that a test chooses, fake embedders, and empty graphs.

The promises that projections are tested for are in `consumers.projections.testing.conformance`.
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
    """A fake embedder: it makes a vector from a text's hash.

    `texts` has every text that it was asked for, and `calls` counts the calls.
    """

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
    """Makes a vector of NaN for each text that begins with `at`."""

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
    """The change that gives this item its state at this version."""
    words = text or f"{item_id} at {version}"
    event = ItemUpserted(
        catalog_id=CATALOG_ID, item_id=item_id, name=item_id, text=words, attributes=attributes
    )
    return change_to(event, version)


def removed(item_id: str, version: int) -> Change:
    """The change that deletes this item at this version."""
    return change_to(ItemRemoved(catalog_id=CATALOG_ID, item_id=item_id), version)


@asynccontextmanager
async def empty_graph(part: GraphPart) -> AsyncIterator[AsyncDriver]:
    """A driver of the part's graph, whose nodes are deleted first.

    Its constraints stay: Neo4j takes a second to make one.
    """
    async with connect(part.url, part.user, part.password.get_secret_value()) as driver:
        await driver.execute_query("MATCH (n) DETACH DELETE n", database_=part.database)
        yield driver


async def drop_constraints(driver: AsyncDriver, database: str) -> None:
    """Drop all constraints, as if no projection had ever been prepared there."""
    run = partial(driver.execute_query, database_=database)
    for record in (await run("SHOW CONSTRAINTS YIELD name")).records:
        await run(f"DROP CONSTRAINT {record['name']}")
