"""The catalog `airports` over HTTP, on a port or in process; `answers.py` judges the answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
from fastapi import FastAPI
from pydantic import SecretStr

from consumers.assembly import live_vectors
from consumers.settings import Settings
from services.assembly import embedder_of
from services.catalog.embedder import WordLlamaEmbedder
from tests.kit.web.served import Served, served

Client = httpx.AsyncClient
Connection = psycopg.AsyncConnection[Any]

EMBEDDER = WordLlamaEmbedder()
KEY = {"Idempotency-Key": "1"}
CATALOG = {"catalog_id": "airports", "name": "Airports"}
ITEM = {"item_id": "JFK", "name": "Kennedy", "text": "An airport in New York"}
PATH = "/catalogs/airports"
ITEMS = f"{PATH}/items"


def catalog_settings(postgres_url: str, folder: Path) -> Settings:
    return Settings(postgres_url=SecretStr(postgres_url), qdrant_url=f"file:{folder / 'qdrant'}")


@asynccontextmanager
async def catalog_service(postgres_url: str, folder: Path) -> AsyncIterator[Served]:
    """The service on a port: PostgreSQL, and a search store with its collection."""
    settings = catalog_settings(postgres_url, folder)
    async with served(settings) as service:
        await live_vectors(service.api.search._client, embedder_of(settings)).prepare()
        yield service


@asynccontextmanager
async def airports(service: Served) -> AsyncIterator[Client]:
    """A caller of the service on a port, where the catalog `airports` exists and is empty."""
    async with Client(base_url=service.url) as client:
        created = await client.post("/catalogs", json=CATALOG, headers=KEY)
        assert created.status_code == 201
        assert created.headers["location"] == PATH
        yield client


def call_in_process(app: FastAPI) -> Client:
    """A caller of the application itself, without a port; errors of the application are answers."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return Client(transport=transport, base_url="http://test")


async def create(client: Client, key: str, **changed: str) -> httpx.Response:
    return await client.post("/catalogs", json=CATALOG | changed, headers={"Idempotency-Key": key})


async def put(client: Client, *items: dict[str, Any], **more: Any) -> httpx.Response:
    return await client.put(ITEMS, json={"items": items or [ITEM], **more})
