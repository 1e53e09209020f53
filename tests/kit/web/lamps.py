"""The catalog `lamps`: puts items, projects them into a search store, and asks what is there."""

from typing import Any

import httpx
import psycopg
from qdrant_client import AsyncQdrantClient

from consumers.assembly import live_vectors
from consumers.projections.projection import read_change
from outbox.streams.heads import read_heads
from outbox.streams.latest import read_latest
from schemas.catalog import COLLECTION, ItemEvent
from tests.kit.web.airports import EMBEDDER

Client = httpx.AsyncClient
Connection = psycopg.AsyncConnection[Any]
ITEMS = "/catalogs/lamps/items"
SEARCH = "/catalogs/lamps/search?q=lamp"
CONSISTENCY = "/catalogs/lamps/consistency"
LIVE = f"{COLLECTION}-1"


async def put(lamps: Client, **items: dict[str, Any]) -> None:
    body = [
        {"item_id": item, "name": item, "text": f"a lamp {item}", "attributes": attributes}
        for item, attributes in items.items()
    ]
    assert (await lamps.put(ITEMS, json={"items": body})).status_code == 200


async def project(store: AsyncQdrantClient, postgres: Connection) -> None:
    """Apply the latest event of each item to the search store, as its consumer does."""
    projection = live_vectors(store, EMBEDDER)
    await projection.prepare()
    streams = [head.stream for head in await read_heads(postgres, [ItemEvent.aggregate])]
    latest = (await read_latest(postgres, streams)).values()
    await projection.apply([read_change(each) for each in latest if each])


async def ask_consistency(lamps: Client) -> dict[str, Any]:
    """What consistency says, without what is empty."""
    response = await lamps.get(CONSISTENCY)
    assert response.status_code == 200
    return {name: value for name, value in response.json().items() if value not in ([], {})}


async def search(lamps: Client, *where: str) -> list[str]:
    response = await lamps.get(SEARCH, params=[("q", "lamp"), *(("where", each) for each in where)])
    assert response.status_code == 200, response.text
    return sorted(hit["item_id"] for hit in response.json())
