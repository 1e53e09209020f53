"""What tests of answers share: a service with its stores, a caller, and the check of a problem."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from consumers.assembly import live_vectors
from consumers.settings import Settings
from services.assembly import embedder_of
from tests.kit.http.served import Served, served

KEY = {"Idempotency-Key": "1"}
CATALOG = {"catalog_id": "airports", "name": "Airports"}
ITEM = {"item_id": "JFK", "name": "Kennedy", "text": "An airport in New York"}
PATH = "/catalogs/airports"
MEMBERS = {"type", "title", "status", "instance", "errors", "trace_id"}


def catalog_settings(postgres_url: str, folder: Path) -> Settings:
    return Settings(postgres_url=SecretStr(postgres_url), qdrant_url=f"file:{folder / 'qdrant'}")


@asynccontextmanager
async def catalog_service(postgres_url: str, folder: Path) -> AsyncIterator[Served]:
    """Run the service with PostgreSQL and a search store whose collection is there."""
    settings = catalog_settings(postgres_url, folder)
    async with served(settings) as service:
        await live_vectors(service.api.search._client, embedder_of(settings)).prepare()
        yield service


@asynccontextmanager
async def airports(service: Served) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a caller of a service in which the catalog `airports` exists and is empty."""
    async with httpx.AsyncClient(base_url=service.url) as client:
        created = await client.post("/catalogs", json=CATALOG, headers=KEY)
        assert created.status_code == 201
        assert created.headers["location"] == PATH
        yield client


def problem(response: httpx.Response, status: int, reason: str) -> dict[str, Any]:
    """Return the problem document; AssertionError unless it is what RFC 9457 and our API say."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document.keys() == MEMBERS
    assert document["type"] == f"urn:aftercommit:problem:{reason}"
    assert document["status"] == status
    return document
