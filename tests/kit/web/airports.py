"""The catalog `airports` over HTTP: on a port or in process, with what a problem must look like."""

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
MEMBERS = {"type", "title", "status", "instance", "errors", "trace_id"}
TABLES = [f"outbox.{name}" for name in ("messages", "streams", "receipts", "dead_letters")]
TABLES += [f"catalog.{name}" for name in ("catalogs", "items")]


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


async def stored(connection: Connection) -> dict[str, list[Any]]:
    """Every row that a request could have left, by table."""
    found = {}
    for table in TABLES:
        rows = await connection.execute(f"SELECT row::text FROM {table} AS row ORDER BY 1".encode())  # noqa: S608 - ours
        found[table] = await rows.fetchall()
    return found


def problem(response: httpx.Response, status: int, reason: str) -> dict[str, Any]:
    """The problem document, which is as RFC 9457 and our OpenAPI document require it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document.keys() == MEMBERS
    assert document["type"] == f"urn:aftercommit:problem:{reason}"
    assert document["status"] == status
    return document


def broken_rules(response: httpx.Response, status: int, reason: str) -> list[tuple[str, str]]:
    """The fields and rules of such a problem document, which names the path that was asked for."""
    document = problem(response, status, reason)
    assert document["instance"] == response.request.url.raw_path.decode().partition("?")[0]
    return [(error["field"], error["rule"]) for error in document["errors"]]
