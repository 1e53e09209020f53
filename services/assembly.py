"""How the services are put together from settings; the roles and the tests start here."""

from collections.abc import Callable
from pathlib import Path

import psycopg
from fastapi import FastAPI
from qdrant_client import AsyncQdrantClient
from sqlalchemy import text

from outbox.database import Database
from outbox.migrate import Migration, outbox_migrations, read, require_current
from outbox.unit_of_work import driver_connection
from schemas.catalog import CatalogCommandRejected
from services.app import Mounted, create_app
from services.body import TIMEOUT_SECONDS
from services.catalog.embedder import MODELS, WordLlamaEmbedder
from services.catalog.handlers import HANDLERS, Context
from services.catalog.routes import Api, routes
from services.catalog.search import Search, connect
from services.registry import Dispatcher
from services.settings import Settings
from services.waiting import Stores

Connect = Callable[[], AsyncQdrantClient]


def all_migrations() -> list[Migration]:
    """The outbox's first, then each service's."""
    return outbox_migrations() + read("catalog", Path(__file__).parent / "catalog" / "migrations")


def qdrant(settings: Settings) -> AsyncQdrantClient:
    key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    return connect(settings.qdrant_url, key, settings.qdrant_timeout_seconds)


def embedder_of(settings: Settings) -> WordLlamaEmbedder:
    """Of the model that the settings choose; it knows the others too."""
    return WordLlamaEmbedder(MODELS[settings.embedding_dimension])


def catalog(
    database: Database,
    connect_qdrant: Connect,
    embedder: WordLlamaEmbedder,
    stores: Stores | None = None,
) -> Api:
    """The catalog service over this database and search store; `stores` can be waited for."""
    search = Search(connect_qdrant, embedder)
    dispatcher = Dispatcher(
        database, Context(database, search), HANDLERS, rejection=CatalogCommandRejected
    )
    return Api(dispatcher, search, stores)


def application(api: Api, body_timeout_seconds: float = TIMEOUT_SECONDS) -> FastAPI:
    """The HTTP application with all services; a request's body must be there by then."""

    async def migrated() -> None:
        async with api.database.ready() as connection:
            await connection.execute(text("SELECT 1"))
            driver: psycopg.AsyncConnection = await driver_connection(connection)
            await require_current(driver, all_migrations())

    checks = {"postgres": migrated, "qdrant": api.search.available}
    return create_app([Mounted("catalog", routes, api)], checks, body_timeout_seconds)
