"""Items: the changes of a catalog that the projections are measured with.

Texts of some twenty words and two attributes, one of them shared by every tenth item, as catalogs
have them. Vectors are drawn once: what a model costs is another question.
"""

import random
from collections.abc import Sequence
from uuid import UUID

import numpy

from consumers.projections.projection import Change, StreamKey
from consumers.qdrant.embedding import Rows
from schemas.catalog import ItemEvent, ItemRemoved, ItemUpserted
from schemas.envelope import digest

DIMENSION = 256
DELETED_EVERY = 20
WORDS = ("north", "river", "stone", "light", "small", "copper", "field", "morning", "long", "blue")


class DrawnEmbedder:
    """Vectors by a text's place in a fixed list: nearly free, and the same for the same text."""

    model = "drawn-256"
    dimension = DIMENSION

    def __init__(self) -> None:
        rng = random.Random(1)  # noqa: S311 - numbers, not secrets
        drawn = [[rng.uniform(-1, 1) for _ in range(DIMENSION)] for _ in range(512)]
        self._vectors: Rows = numpy.asarray(drawn)

    async def embed(self, texts: Sequence[str]) -> Rows:
        """An array, as real models give."""
        return self._vectors[[len(text) * 31 % 512 for text in texts]]


def changes(first: int, count: int, version: int) -> list[Change]:
    """One change a key; from version 2 on, every twentieth is a delete."""
    return [_change(number, version) for number in range(first, first + count)]


def _change(number: int, version: int) -> Change:
    event = _event(number, version)
    return Change(
        stream=StreamKey(ItemEvent.aggregate, event.key()),
        version=version,
        event_id=str(UUID(int=number << 32 | version)),
        digest=digest(event.model_dump_json().encode()),
        deleted=event.deletes,
        event=event,
    )


def _event(number: int, version: int) -> ItemEvent:
    if version > 1 and number % DELETED_EVERY == 0:
        return ItemRemoved(catalog_id="bench", item_id=f"i{number}")
    words = [WORDS[(number * 7 + version + place * 3) % len(WORDS)] for place in range(20)]
    return ItemUpserted(
        catalog_id="bench",
        item_id=f"i{number}",
        name=f"item {number}",
        text=f"{' '.join(words)} {number} {version}",
        attributes={"colour": WORDS[number % len(WORDS)], "size": float(number % 1000)},
    )
