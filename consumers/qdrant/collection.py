"""Collection: where a projection's points are in Qdrant. It is made, indexed and checked here."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from qdrant_client import AsyncQdrantClient, models

from consumers.qdrant.embedding import Embedder
from consumers.qdrant.errors import (
    CONFLICT,
    MISSING,
    QdrantRefused,
    is_server,
    require_version,
    translate_errors,
)
from outbox.errors import DependencyDown, StoreUnfit

T = TypeVar("T")
Indexes = Mapping[str, models.PayloadSchemaType]

MODEL = "model"  # the name under which a collection keeps it; services.catalog.search reads it

OWN_INDEXES: Indexes = {
    "aggregate": models.PayloadSchemaType.KEYWORD,
    "version": models.PayloadSchemaType.INTEGER,
    "deleted": models.PayloadSchemaType.BOOL,
}


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection at a server, or in local mode; `indexes` are made beside OWN_INDEXES.

    All methods raise DependencyDown where the server is away, and StoreUnfit where the collection
    or the server cannot serve: then nothing is wrong with any message.
    """

    client: AsyncQdrantClient
    name: str
    embedder: Embedder
    indexes: Indexes

    async def prepare(self) -> None:
        """Create the collection and its indexes where they are missing."""
        server = is_server(self.client)
        if server:
            await require_version(self.client)
        await self._create()
        await self.require_ours()
        if server:  # local mode has none
            await self._index()

    async def require_ours(self) -> None:
        """Raise StoreUnfit unless the collection has the embedder's model and dimension."""
        info = await describe_collection(self.client, self.name)
        params = info.config.params.vectors
        size = params.size if isinstance(params, models.VectorParams) else None
        model = (info.config.metadata or {}).get(MODEL, self.embedder.model)
        if (size, model) != (self.embedder.dimension, self.embedder.model):
            raise StoreUnfit(
                f"qdrant collection {self.name} has dimension {size}, of {model}; "
                f"{self.embedder.model} has {self.embedder.dimension}: "
                "`python -m consumers rebuild start --model` makes another one"
            )

    async def ask(self, question: Awaitable[T]) -> T:
        """The answer to a request that only asks.

        Raises DependencyDown where it is refused: that says nothing about any message.
        """
        try:
            with translate_errors():
                return await question
        except QdrantRefused as error:
            await self.require_ours()
            raise DependencyDown("qdrant", f"a question is refused: {error}") from error

    async def _create(self) -> None:
        size = self.embedder.dimension
        config = models.VectorParams(size=size, distance=models.Distance.COSINE)
        try:
            with translate_errors():
                if not await self.client.collection_exists(self.name):
                    await self.client.create_collection(
                        self.name, vectors_config=config, metadata={MODEL: self.embedder.model}
                    )
        except QdrantRefused as error:
            if error.status != CONFLICT:  # another process was faster
                raise StoreUnfit(f"qdrant makes no collection {self.name}: {error}") from error

    async def _index(self) -> None:
        for name, schema in {**OWN_INDEXES, **self.indexes}.items():
            await self.ask(self.client.create_payload_index(self.name, name, schema, wait=True))


async def describe_collection(client: AsyncQdrantClient, name: str) -> models.CollectionInfo:
    """What Qdrant says of a collection; raises StoreUnfit where it has none of that name."""
    try:
        with translate_errors():
            return await client.get_collection(name)
    except QdrantRefused as error:
        if error.status not in (None, MISSING):
            raise DependencyDown("qdrant", str(error)) from error
        raise StoreUnfit(
            f"qdrant has no collection {name}: restore it, or start this consumer anew, "
            "which creates it, and repair the drift"
        ) from error
