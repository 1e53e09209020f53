"""Embedding: the vectors of a batch, each text embedded once, in one call to the embedder.

Vectors are reused from the points that a batch replaces, and within a batch. Weakness: equal texts
of different keys in different batches are embedded each; so is one that returns after a delete.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy
from qdrant_client import models

from consumers.qdrant.points import Document, Vector
from outbox.errors import Halted

Rows = numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.float64]]


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


async def embed_documents(
    embedder: Embedder, documents: Iterable[Document], known: Mapping[str, Vector]
) -> dict[str, Vector]:
    """A vector for each content hash: a known one, or one of a single call to the embedder.

    Halted where it does not give one a text: no message is at fault.
    """
    missing = {d.content_hash: d.text for d in documents if d.content_hash not in known}
    if not missing:
        return dict(known)
    made = _rows(await embedder.embed(list(missing.values())))
    if made.shape != (len(missing), embedder.dimension):
        raise Halted(
            f"{embedder.model} gives no {embedder.dimension} numbers a text (its vectors for "
            f"{len(missing)} texts are {made.shape}): repair the embedder"
        )
    return {**known, **dict(zip(missing, made.tolist(), strict=True))}


def _rows(made: Iterable[Iterable[float]]) -> Rows:
    try:
        return numpy.asarray(made, dtype=float)
    except (ValueError, TypeError):  # not of one length, or not of numbers
        return numpy.empty(0)


def list_reusable_ids(
    records: Iterable[models.Record], documents: Iterable[Document], embedder: Embedder
) -> list[str]:
    """The ids of points whose text stays and was embedded by this model: few, as a rule."""
    wanted = {document.content_hash for document in documents}
    return [
        str(record.id)
        for record in records
        if (payload := record.payload or {}).get("model") == embedder.model
        and isinstance(kept := payload.get("content_hash"), str)
        and kept in wanted
    ]


def read_reusable(records: Iterable[models.Record]) -> dict[str, Vector]:
    """The vectors that need not be made, by content hash."""
    return {
        kept: list(map(float, record.vector))  # type: ignore[arg-type] # a list
        for record in records
        if isinstance(record.vector, list)
        and isinstance(kept := (record.payload or {}).get("content_hash"), str)
    }
