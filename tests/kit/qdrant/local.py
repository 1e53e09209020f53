"""LocalEngine: qdrant-client's local mode behind the scripted server, a stand-in."""

from collections.abc import Sequence

from qdrant_client import AsyncQdrantClient, models

from tests.kit.qdrant.engine import Json, Record, WrongInputError


class LocalEngine:
    """The local mode of qdrant-client, in memory."""

    def __init__(self) -> None:
        self._client = AsyncQdrantClient(location=":memory:")

    async def size(self, collection: str) -> int | None:
        if not await self._client.collection_exists(collection):
            return None
        params = (await self._client.get_collection(collection)).config.params.vectors
        assert isinstance(params, models.VectorParams)
        return params.size

    async def create(self, collection: str, size: int) -> None:
        config = models.VectorParams(size=size, distance=models.Distance.COSINE)
        await self._client.create_collection(collection, vectors_config=config)

    async def drop(self, collection: str) -> None:
        await self._client.delete_collection(collection)

    async def upsert(self, collection: str, points: Sequence[Json], fence: Json | None) -> None:
        body = {"points": points, "update_filter": fence}
        operation = models.UpsertOperation(upsert=models.PointsList.model_validate(body))
        try:
            await self._client.batch_update_points(collection, [operation])
        except ValueError as error:
            raise WrongInputError(str(error)) from error

    async def delete(self, collection: str, condition: Json) -> None:
        selector = models.FilterSelector(filter=models.Filter.model_validate(condition))
        await self._client.delete(collection, points_selector=selector)

    async def retrieve(
        self, collection: str, ids: Sequence[str], fields: list[str] | None, *, vectors: bool
    ) -> list[Record]:
        found = await self._client.retrieve(
            collection, ids, with_payload=fields or True, with_vectors=vectors
        )
        return [_record(record) for record in found]

    async def scroll(
        self, collection: str, limit: int, offset: str | None
    ) -> tuple[list[Record], str | None]:
        found, after = await self._client.scroll(
            collection, limit=limit, offset=offset, with_vectors=True
        )
        return [_record(record) for record in found], None if after is None else str(after)

    async def close(self) -> None:
        await self._client.close()


def _record(record: models.Record) -> Record:
    vector = record.vector if isinstance(record.vector, list) else []
    return str(record.id), record.payload or {}, [float(x) for x in vector]  # type: ignore[arg-type] # a list
