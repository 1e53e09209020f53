"""Vectors in local mode: inside the process that connects, in a folder or in memory."""

from pathlib import Path

import pytest
from qdrant_client import models

from outbox.errors import DependencyDown
from stack.errors import PartFailed
from stack.servers.vectors import connect, vectors
from stack.settings import StackSettings

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("in_memory", [True, False])
async def test_a_point_is_found(folder: Path, settings: StackSettings, *, in_memory: bool) -> None:
    async with vectors(None if in_memory else folder, settings) as part:
        assert (part.stand_in, part.pid) == (True, None)
        client = connect(part)
        size = models.VectorParams(size=2, distance=models.Distance.COSINE)
        await client.create_collection("places", vectors_config=size)
        await client.upsert("places", [models.PointStruct(id=1, vector=[0.0, 1.0])])
        found = await client.query_points("places", query=[0.0, 1.0])
        await client.close()
        assert [point.id for point in found.points] == [1]


# The refused client forgets to close the lock file that it opened: theirs, and harmless.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_folder_has_one_client_at_a_time(folder: Path, settings: StackSettings) -> None:
    async with vectors(folder, settings) as part:
        first = connect(part)
        with pytest.raises(DependencyDown, match="belongs to another process"):
            connect(part)
        await first.close()
        await connect(part).close()


async def test_a_url_that_does_not_answer_is_named(folder: Path, settings: StackSettings) -> None:
    closed = {"qdrant_url": "http://127.0.0.1:1", "ready_timeout_seconds": 0.3}
    with pytest.raises(PartFailed, match="QDRANT_URL"):
        async with vectors(folder, settings.model_copy(update=closed)):
            pass
