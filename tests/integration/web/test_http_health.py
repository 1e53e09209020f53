"""Health and consistency over HTTP: what is down, what is behind, and which keys differ."""

from typing import Any

import pytest

from consumers.assembly import live_vectors
from consumers.projections.projection import read_change
from schemas.envelope import Envelope
from services.catalog.routes import Api
from tests.kit.web.airports import EMBEDDER, ITEM, ITEMS, Client, Connection, create, put
from tests.kit.web.answers import broken_rules

pytestmark = pytest.mark.anyio


async def test_ready_names_what_is_down(caller: Client, api: Api) -> None:
    response = await caller.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"postgres": "ready", "qdrant": "down"})
    await live_vectors(api.search._client, EMBEDDER).prepare()
    response = await caller.get("/readyz")
    assert (response.status_code, response.json()) == (
        200,
        {"postgres": "ready", "qdrant": "ready"},
    )


async def test_ready_says_when_the_schema_is_behind(caller: Client, postgres: Connection) -> None:
    await postgres.execute("DELETE FROM outbox.migrations WHERE component = 'catalog'")
    response = await caller.get("/readyz")
    assert (response.status_code, response.json()["postgres"]) == (503, "down")


async def test_ready_says_when_a_migration_has_changed(
    caller: Client, postgres: Connection
) -> None:
    await postgres.execute("UPDATE outbox.migrations SET digest = 'x'")
    response = await caller.get("/readyz")
    assert (response.status_code, response.json()["postgres"]) == (503, "down")


async def test_without_postgres_the_process_lives_and_says_what_is_down(
    away: Client,
) -> None:
    assert (await away.get("/livez")).json() == {"status": "live"}
    response = await away.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"postgres": "down", "qdrant": "down"}
    broken_rules(await away.get("/catalogs/airports"), 503, "unavailable")
    broken_rules(await away.get("/catalogs/airports/search?q=a"), 503, "unavailable")
    response = await create(away, "one")
    broken_rules(response, 503, "unavailable")
    assert response.headers["retry-after"]


EVENTS = """
    SELECT id::text, type, aggregateid, payload, version FROM outbox.messages
    WHERE topic = 'catalog.item.events' ORDER BY position
"""


async def project(api: Api, postgres: Connection) -> None:
    """Apply all item events so far to the search store, as its consumer does."""
    projection = live_vectors(api.search._client, EMBEDDER)
    await projection.prepare()
    rows = await (await postgres.execute(EVENTS)).fetchall()
    events = [
        Envelope(message_id, "/catalog", kind, key, payload.encode(), sequence=version)
        for message_id, kind, key, payload, version in rows
    ]
    await projection.apply([read_change(event) for event in events])


async def consistency(caller: Client) -> dict[str, Any]:
    """What differs, and how many there are of what."""
    document: dict[str, Any] = (await caller.get("/catalogs/airports/consistency")).json()
    return {name: value for name, value in document.items() if value not in ([], {})}


async def test_consistency_names_the_keys_that_differ(
    airports: Client, api: Api, postgres: Connection
) -> None:
    await project(api, postgres)
    await put(airports, *[ITEM | {"item_id": item_id} for item_id in "ab"])
    counts = {"postgres_items": 2, "qdrant_items": 0, "qdrant_tombstones": 0}
    missing = {"missing": ["airports/a", "airports/b"], "counts": {"missing": 2}}
    assert await consistency(airports) == {"in_sync": False} | counts | missing

    await project(api, postgres)
    assert await consistency(airports) == {"in_sync": True} | counts | {"qdrant_items": 2}
    hits = (await airports.get("/catalogs/airports/search?q=airport")).json()
    assert sorted(hit["item_id"] for hit in hits) == ["a", "b"]

    await put(airports, ITEM | {"item_id": "a", "name": "New"})
    stale = {"qdrant_items": 2, "stale": ["airports/a"], "counts": {"stale": 1}}
    assert await consistency(airports) == {"in_sync": False} | counts | stale


async def test_a_removed_item_is_in_sync_once_the_store_has_its_tombstone(
    airports: Client, api: Api, postgres: Connection
) -> None:
    await put(airports, *[ITEM | {"item_id": item_id} for item_id in "ab"])
    await airports.delete(f"{ITEMS}/b")
    await project(api, postgres)
    counts = {"postgres_items": 1, "qdrant_items": 1, "qdrant_tombstones": 1}
    assert await consistency(airports) == {"in_sync": True} | counts
