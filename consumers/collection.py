"""Collection: where a projection's points are in Qdrant; made, indexed, and known to be ours."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from qdrant_client import AsyncQdrantClient, models

from consumers.embedding import Embedder
from consumers.qdrant_edge import (
    CONFLICT,
    MISSING,
    Refused,
    is_server,
    require_version,
    translated,
)
from outbox.errors import DependencyDown, SchemaBehind

T = TypeVar("T")
Indexes = Mapping[str, models.PayloadSchemaType]

OWN_INDEXES: Indexes = {
    "aggregate": models.PayloadSchemaType.KEYWORD,
    "version": models.PayloadSchemaType.INTEGER,
    "deleted": models.PayloadSchemaType.BOOL,
}


@dataclass(frozen=True, slots=True)
class Collection:
    """A name at a server, or in local mode; `indexes` are made beside OWN_INDEXES.

    All methods raise DependencyDown where the server is away, and SchemaBehind where what is there
    cannot serve: then nothing is wrong with any message.
    """

    client: AsyncQdrantClient
    name: str
    embedder: Embedder
    indexes: Indexes

    async def prepare(self) -> None:
        """Create it and its indexes where they are missing."""
        server = is_server(self.client)
        if server:
            await require_version(self.client)
        await self._create()
        await self.require_ours()
        if server:  # local mode has none
            await self._index()

    async def require_ours(self) -> None:
        """That it is there, and has the embedder's dimension."""
        params = (await self._info()).config.params.vectors
        size = params.size if isinstance(params, models.VectorParams) else None
        if size != self.embedder.dimension:
            raise SchemaBehind(
                f"qdrant collection {self.name} has dimension {size}, "
                f"{self.embedder.model} has {self.embedder.dimension}: "
                "name another collection and rebuild into it"
            )

    async def asked(self, question: Awaitable[T]) -> T:
        """The answer to a question; that it is refused says nothing of any message."""
        try:
            with translated():
                return await question
        except Refused as error:
            await self.require_ours()
            raise DependencyDown("qdrant", f"a question is refused: {error}") from error

    async def _create(self) -> None:
        size = self.embedder.dimension
        config = models.VectorParams(size=size, distance=models.Distance.COSINE)
        try:
            with translated():
                if not await self.client.collection_exists(self.name):
                    await self.client.create_collection(self.name, vectors_config=config)
        except Refused as error:
            if error.status != CONFLICT:  # somebody else was faster
                raise SchemaBehind(f"qdrant makes no collection {self.name}: {error}") from error

    async def _info(self) -> models.CollectionInfo:
        try:
            with translated():
                return await self.client.get_collection(self.name)
        except Refused as error:
            if error.status not in (None, MISSING):
                raise DependencyDown("qdrant", str(error)) from error
            raise SchemaBehind(
                f"qdrant has no collection {self.name}: restore it, or start this consumer anew, "
                "which creates it, and repair the drift"
            ) from error

    async def _index(self) -> None:
        for name, schema in {**OWN_INDEXES, **self.indexes}.items():
            await self.asked(self.client.create_payload_index(self.name, name, schema, wait=True))
