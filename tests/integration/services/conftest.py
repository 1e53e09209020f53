"""What the tests of the catalog's readers share: a search store in memory, and a caller over it."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from qdrant_client import AsyncQdrantClient

from outbox.write.database import Database
from services.assembly import catalog
from services.settings import Settings
from tests.kit.web.airports import EMBEDDER, Client, call_in_process
from web.app import application


@pytest.fixture
async def store() -> AsyncIterator[AsyncQdrantClient]:
    """A search store in memory, without a collection."""
    client = AsyncQdrantClient(location=":memory:")
    yield client
    await client.close()


@pytest.fixture
async def lamps(postgres_url: str, store: AsyncQdrantClient) -> AsyncIterator[Client]:
    """A caller of the service in process over `store`, where the catalog `lamps` exists."""
    settings = Settings(postgres_url=SecretStr(postgres_url), qdrant_url=":memory:")
    async with Database(settings, "catalog") as database:
        api = catalog(database, lambda: store, EMBEDDER)
        async with call_in_process(application(api)) as client:
            body = {"catalog_id": "lamps", "name": "Lamps"}
            await client.post("/catalogs", json=body, headers={"Idempotency-Key": "one"})
            yield client
