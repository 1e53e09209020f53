"""Embedding: the vectors of a batch. Each text is embedded once, in one call to the embedder.

Vectors are reused from the points that a batch replaces, and within a batch. Weakness: a text is
embedded again for another key in another batch, and when it returns after a delete.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy
from qdrant_client import models

from consumers.qdrant.points import Document, Vector
from outbox.errors import Halted

Rows = numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.float64]]


class Embedder(Protocol):
    """Turns texts into vectors. It must not block the event loop."""

    @property
    def model(self) -> str:
        """The name of the model and its version: vectors of one name are comparable."""

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""

    async def embed(self, texts: Sequence[str]) -> Iterable[Iterable[float]]:
        """One vector a text, in the order of the texts: lists, or the rows of an array."""


async def embed_documents(
    embedder: Embedder, documents: Iterable[Document], known: Mapping[str, Vector]
) -> dict[str, Vector]:
    """A vector for each content hash: a known one, or one from a single call to the embedder.

    Raises Halted where the embedder does not give one vector a text: no message is at fault.
    """
    missing = {d.content_hash: d.text for d in documents if d.content_hash not in known}
    if not missing:
        return dict(known)
    made = _as_rows(await embedder.embed(list(missing.values())))
    if made.shape != (len(missing), embedder.dimension):
        raise Halted(
            f"{embedder.model} gives no {embedder.dimension} numbers a text (its vectors for "
            f"{len(missing)} texts are {made.shape}): repair the embedder"
        )
    return {**known, **dict(zip(missing, made.tolist(), strict=True))}


def _as_rows(made: Iterable[Iterable[float]]) -> Rows:
    try:
        return numpy.asarray(made, dtype=float)
    except (ValueError, TypeError):  # not of one length, or not of numbers
        return numpy.empty(0)


def list_reusable_ids(
    records: Iterable[models.Record], documents: Iterable[Document], embedder: Embedder
) -> list[str]:
    """The ids of the points whose vector can be used again.

    Their text stays the same and was embedded by this model: that is few of them, as a rule.
    """
    wanted = {document.content_hash for document in documents}
    return [
        str(record.id)
        for record in records
        if (payload := record.payload or {}).get("model") == embedder.model
        and isinstance(known := payload.get("content_hash"), str)
        and known in wanted
    ]


def read_reusable(records: Iterable[models.Record]) -> dict[str, Vector]:
    """The vectors that these points hold, by content hash."""
    return {
        known: list(map(float, record.vector))  # type: ignore[arg-type] # a list
        for record in records
        if isinstance(record.vector, list)
        and isinstance(known := (record.payload or {}).get("content_hash"), str)
    }
