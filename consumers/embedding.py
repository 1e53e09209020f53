"""Embedding: the vectors of a batch, each text embedded once, in one call to the embedder.

Vectors are reused from the points that a batch replaces, and within a batch. Weakness: equal texts
of different keys in different batches are embedded each; so is one that returns after a delete.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from qdrant_client import models

from consumers.points import Document, Vector


class Embedder(Protocol):
    """Turns texts into vectors; keeps its work off the event loop itself."""

    @property
    def model(self) -> str:
        """Names the model and its version: vectors of one name are comparable."""

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""

    async def embed(self, texts: Sequence[str]) -> Iterable[Iterable[float]]:
        """One vector a text, in the same order: lists, or the rows of an array."""


async def vectors(
    embedder: Embedder, documents: Iterable[Document], known: Mapping[str, Vector]
) -> dict[str, Vector]:
    """A vector for each content hash: a known one, or one of a single call to the embedder."""
    missing = {d.content_hash: d.text for d in documents if d.content_hash not in known}
    if not missing:
        return dict(known)
    made = [[float(x) for x in v] for v in await embedder.embed(list(missing.values()))]
    if [len(vector) for vector in made] != [embedder.dimension] * len(missing):
        raise ValueError(f"{embedder.model} broke its promise: one vector a text")
    return {**known, **dict(zip(missing, made, strict=True))}


def reusable(records: Iterable[models.Record], embedder: Embedder) -> dict[str, Vector]:
    """What the store can spare us to embed: the vectors of this model, by content hash."""
    return {
        payload["content_hash"]: list(map(float, record.vector))  # type: ignore[arg-type] # a list
        for record in records
        if (payload := record.payload or {}).get("model") == embedder.model
        and isinstance(record.vector, list)
    }
