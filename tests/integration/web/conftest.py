"""What the HTTP tests share: the catalog's service on a port or in process, and its callers."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from outbox.write.database import Database
from services.assembly import catalog, qdrant
from services.catalog.routes import Api
from services.settings import Settings
from tests.kit.web import airports as kit
from tests.kit.web.airports import EMBEDDER, Client, call_in_process, catalog_service, create
from tests.kit.web.served import Served
from tests.kit.web.traces import Lines, capture_lines
from web.app import application


@pytest.fixture
async def service(postgres_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    """The service on a port, with a search store that has its collection."""
    async with catalog_service(postgres_url, tmp_path) as service:
        yield service


@pytest.fixture
async def http(service: Served) -> AsyncIterator[Client]:
    """A caller of that service, where the catalog `airports` exists."""
    async with kit.airports(service) as client:
        yield client


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Every log line that the test causes."""
    with capture_lines() as lines:
        yield lines


@pytest.fixture
def local(postgres_url: str, tmp_path: Path) -> Settings:
    """The settings of the service in process."""
    return Settings(
        postgres_url=SecretStr(postgres_url),
        qdrant_url=f"file:{tmp_path / 'qdrant'}",
        connect_timeout_seconds=2,
    )


@pytest.fixture
async def api(local: Settings) -> AsyncIterator[Api]:
    """The catalog service in process, over a search store without a collection."""
    client = qdrant(local)
    async with Database(local, "catalog") as database:
        yield catalog(database, lambda: client, EMBEDDER)
    await client.close()


@pytest.fixture
async def caller(api: Api) -> AsyncIterator[Client]:
    """A caller of the service in process, where no catalog exists."""
    async with call_in_process(application(api)) as client:
        yield client


@pytest.fixture
async def airports(caller: Client) -> Client:
    """The same caller, where the catalog `airports` exists."""
    await create(caller, "setup")
    return caller


@pytest.fixture
async def away(local: Settings) -> AsyncIterator[Client]:
    """A caller of the same service, whose servers are not there."""
    nowhere = {
        "postgres_url": SecretStr("postgresql://postgres@127.0.0.1:1/none"),
        "qdrant_url": "http://127.0.0.1:1",
    }
    settings = local.model_copy(update=nowhere)
    async with Database(settings, "catalog") as database:
        api = catalog(database, lambda: qdrant(settings), EMBEDDER)
        async with call_in_process(application(api)) as client:
            yield client
