"""Points that other programs put into the search store (FB3): named by consistency, in no search.

The search store is the local mode of qdrant-client.
"""

from typing import Any
from uuid import uuid4

import pytest
from qdrant_client import AsyncQdrantClient, models

from consumers.projections.projection import StreamKey
from consumers.qdrant.points import point_id
from schemas.catalog import COLLECTION, ItemEvent
from tests.kit.web.airports import EMBEDDER
from tests.kit.web.lamps import (
    LIVE,
    SEARCH,
    Client,
    Connection,
    ask_consistency,
    project,
    put,
    search,
)

pytestmark = pytest.mark.anyio


def fields(item_id: str, **changed: Any) -> dict[str, Any]:
    return {"catalog_id": "lamps", "item_id": item_id, "name": "n", "attributes": {}} | changed


def entry(item_id: str, **changed: Any) -> dict[str, Any]:
    """The payload that the projection would write, with changes."""
    made = {
        "aggregate": ItemEvent.aggregate,
        "key": f"lamps/{item_id}",
        "version": 1,
        "event_id": "e",
        "digest": "d",
        "deleted": False,
        "fields": fields(item_id),
    }
    return made | changed


FOREIGN: list[dict[str, Any]] = [
    {"deleted": False, "fields": {"catalog_id": "lamps"}},
    {"aggregate": ItemEvent.aggregate, "key": "lamps/zz", "fields": {"catalog_id": "lamps"}},
    entry("z", version="1"),
    entry("z", version=1.5),
    entry("z", digest=7),
    entry("z", deleted="false"),
    entry("z", key="elsewhere/z"),
    entry("z", key=5),
    entry("z", aggregate="orders.order"),
]


# Their event identity is valid, but they are no items.
UNFIT: list[dict[str, Any]] = [
    entry("z", fields=fields("z", name=7)),
    entry("z", fields=fields("other")),
    entry("z", fields=fields("z", attributes=["a"])),
    entry("z", fields=fields("z", attributes={"a": {"b": 1}})),
    entry("z", fields=fields("z") | {"item_id": None}),
    entry("z", fields={"catalog_id": "lamps"}),
]


async def plant(store: AsyncQdrantClient, payload: dict[str, Any], place: str) -> None:
    """Put a point that is nearer than all others to a question about lamps."""
    (vector,) = await EMBEDDER.embed(["lamp"])
    points = [models.PointStruct(id=place, vector=vector.tolist(), payload=payload)]
    await store.upsert(LIVE, points)


@pytest.mark.parametrize("payload", FOREIGN, ids=range(len(FOREIGN)))
async def test_a_foreign_point_is_told_by_its_id_and_in_no_search(
    lamps: Client, store: AsyncQdrantClient, postgres: Connection, payload: dict[str, Any]
) -> None:
    """FB3: this holds even if it is the nearest of all, and a page has one hit."""
    await put(lamps, a={}, b={})
    await project(store, postgres)
    place = str(uuid4())
    await plant(store, payload, place)
    document = await ask_consistency(lamps)
    assert (document["in_sync"], document["foreign"]) == (False, [place])
    assert document["counts"] == {"foreign": 1}
    assert await search(lamps) == ["a", "b"]
    assert len((await lamps.get(f"{SEARCH}&limit=1")).json()) == 1


@pytest.mark.parametrize("payload", UNFIT, ids=range(len(UNFIT)))
async def test_a_point_that_is_no_item_is_in_no_search(
    lamps: Client, store: AsyncQdrantClient, postgres: Connection, payload: dict[str, Any]
) -> None:
    """FB3: it stands under the id of a key, so that a check calls the key orphaned."""
    await put(lamps, a={}, b={})
    await project(store, postgres)
    await plant(store, payload, point_id(StreamKey(ItemEvent.aggregate, "lamps/z")))
    document = await ask_consistency(lamps)
    assert (document["in_sync"], document["orphaned"]) == (False, ["lamps/z"])
    assert await search(lamps) == ["a", "b"]


@pytest.mark.parametrize("metadata", [None, {}, {"model": 7}, {"model": "another"}], ids=str)
async def test_a_collection_that_is_none_of_ours_is_an_outage_of_the_search(
    lamps: Client, store: AsyncQdrantClient, metadata: dict[str, Any] | None
) -> None:
    """FB3: the alias leads to what another program has made."""
    config = models.VectorParams(size=4, distance=models.Distance.COSINE)
    await store.create_collection("theirs", vectors_config=config, metadata=metadata)
    alias = models.CreateAlias(collection_name="theirs", alias_name=COLLECTION)
    await store.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    response = await lamps.get(SEARCH)
    assert (response.status_code, response.json()["type"][-11:]) == (503, "unavailable")
