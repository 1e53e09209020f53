"""Items: the changes of a catalog that the projections are measured with.

An item has a text of some twenty words and two attributes; every tenth item shares one of them.
Vectors are drawn once, since the cost of a model is another question.
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
    """Vectors from a fixed list, by the length of the text: nearly free, and always the same."""

    model = "drawn-256"
    dimension = DIMENSION

    def __init__(self) -> None:
        rng = random.Random(1)  # noqa: S311 - numbers, not secrets
        drawn = [[rng.uniform(-1, 1) for _ in range(DIMENSION)] for _ in range(512)]
        self._vectors: Rows = numpy.asarray(drawn)

    async def embed(self, texts: Sequence[str]) -> Rows:
        """Return one row a text, in an array like that of a real model."""
        return self._vectors[[len(text) * 31 % 512 for text in texts]]


def changes(first: int, count: int, version: int) -> list[Change]:
    """Return one change for each key; from version 2 on, every twentieth is a delete."""
    return [_make_change(number, version) for number in range(first, first + count)]


def _make_change(number: int, version: int) -> Change:
    event = _make_event(number, version)
    return Change(
        stream=StreamKey(ItemEvent.aggregate, event.key()),
        version=version,
        event_id=str(UUID(int=number << 32 | version)),
        digest=digest(event.model_dump_json().encode()),
        deleted=event.deletes,
        event=event,
    )


def _make_event(number: int, version: int) -> ItemEvent:
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
