"""Bugs planted into the real projection of Qdrant, in this process, to prove that they are seen."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient, models

from consumers.qdrant import projection
from consumers.qdrant.projection import QdrantProjection
from tests.kit.planted.plant import plant


def no_version_guard() -> AbstractContextManager[None]:
    """M05: versions are compared when they are read, and not when they are written."""

    def unfenced(points: Iterable[models.PointStruct]) -> list[models.UpsertOperation]:
        return [models.UpsertOperation(upsert=models.PointsList(points=list(points)))]

    write = QdrantProjection._write

    async def unguarded(
        projection: QdrantProjection, points: Sequence[models.PointStruct], _: Any = None
    ) -> list[models.PointStruct]:
        return await write(projection, points, unfenced)

    return plant(QdrantProjection, "_write", unguarded)


def no_tombstone() -> AbstractContextManager[None]:
    """M06: a delete removes the point together with its version."""
    write = QdrantProjection._write

    async def removing(
        projection: QdrantProjection, points: Sequence[models.PointStruct], *fence: Any
    ) -> list[models.PointStruct]:
        gone = [point.id for point in points if (point.payload or {})["deleted"]]
        client: AsyncQdrantClient = projection._client
        refused = await write(projection, points, *fence)
        if gone:
            await client.delete(projection.collection, gone)
        return refused

    return plant(QdrantProjection, "_write", removing)


@contextmanager
def nothing_waited_for() -> Iterator[None]:
    """M14: writes have `wait=false`, and any answer counts as applied."""
    update = AsyncQdrantClient.batch_update_points

    async def hurried(client: AsyncQdrantClient, *arguments: Any, **options: Any) -> Any:
        return await update(client, *arguments, **{**options, "wait": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AsyncQdrantClient, "batch_update_points", hurried)
        patch.setattr(projection, "require_completed", lambda *_: None)
        yield
