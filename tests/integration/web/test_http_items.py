"""Items over HTTP: they are put, read, listed and removed; only a change is a new version."""

import json
from typing import Any

import pytest

from tests.kit.web.airports import CATALOG, ITEM, ITEMS, Client, Connection, put
from tests.kit.web.answers import broken_rules, stored

pytestmark = pytest.mark.anyio


async def test_an_unknown_catalog_is_not_found(caller: Client, postgres: Connection) -> None:
    unknown = [("catalog_id", "must name an existing catalog")]
    assert broken_rules(await put(caller), 404, "not-found") == unknown
    assert broken_rules(await caller.get("/catalogs/airports"), 404, "not-found") == unknown
    assert (await stored(postgres))["catalog.items"] == []


async def test_an_item_is_put_read_listed_and_removed(airports: Client) -> None:
    assert (await put(airports)).json()["result"] == {"upserted": 1, "unchanged": 0}
    assert (await put(airports)).json()["result"] == {"upserted": 0, "unchanged": 1}
    assert (await put(airports, ITEM | {"name": "JFK"})).json()["result"]["upserted"] == 1
    found = (await airports.get(f"{ITEMS}/JFK")).json()
    shown = {**ITEM, "catalog_id": "airports", "name": "JFK", "attributes": {}, "version": 2}
    assert found == shown
    assert (await airports.get(ITEMS)).json() == [shown]
    assert (await airports.get("/catalogs/airports")).json() == CATALOG | {"items": 1}
    assert (await airports.delete(f"{ITEMS}/JFK")).json()["result"] == {"removed": True}
    broken_rules(await airports.get(f"{ITEMS}/JFK"), 404, "not-found")
    broken_rules(await airports.delete(f"{ITEMS}/JFK"), 404, "not-found")


async def test_items_are_listed_a_page_at_a_time(airports: Client) -> None:
    await put(airports, *[ITEM | {"item_id": f"i{n}"} for n in range(5)])
    pages = []
    after = ""
    while page := (await airports.get(ITEMS, params={"after": after, "limit": 2})).json():
        pages.append([item["item_id"] for item in page])
        after = pages[-1][-1]
    assert pages == [["i0", "i1"], ["i2", "i3"], ["i4"]]


@pytest.mark.parametrize("value", [0, -0.0, 2.5, 0.1, 1e23, 1e308, 5e-324, 2**53, True, ""])
async def test_the_same_item_again_is_no_new_version(airports: Client, value: Any) -> None:
    item = ITEM | {"attributes": {"value": value}}
    await put(airports, item)
    assert (await put(airports, item)).json()["result"] == {"upserted": 0, "unchanged": 1}
    assert (await airports.get(f"{ITEMS}/JFK")).json()["version"] == 1


@pytest.mark.parametrize(("before", "after"), [(True, 1), (1, True), (0, False), (1, "1")])
async def test_a_value_of_another_type_is_a_new_version(
    airports: Client, before: Any, after: Any
) -> None:
    """FA5: to Python, True equals 1."""
    await put(airports, ITEM | {"attributes": {"lit": before}})
    response = await put(airports, ITEM | {"attributes": {"lit": after}})
    assert response.json()["result"] == {"upserted": 1, "unchanged": 0}
    found = (await airports.get(f"{ITEMS}/JFK")).json()
    assert (found["version"], json.dumps(found["attributes"]["lit"])) in (
        (2, json.dumps(after)),
        (2, json.dumps(float(after))),
    )


@pytest.mark.parametrize("literal", ["9007199254740993", "0.12345678901234567890", "1e-400"])
async def test_a_number_that_could_not_be_kept_is_refused_and_nothing_is_stored(
    airports: Client, postgres: Connection, literal: str
) -> None:
    """FA6."""
    body = json.dumps({"items": [ITEM | {"attributes": {"n": 1}}]}).replace("1}", f"{literal}}}")
    response = await airports.put(ITEMS, content=body, headers={"content-type": "application/json"})
    ((field, _),) = broken_rules(response, 422, response.json()["type"].rpartition(":")[2])
    assert field.removeprefix("body.") == "items.0.attributes.n"
    assert (await stored(postgres))["catalog.items"] == []


async def test_an_item_twice_in_a_command_changes_no_item(
    airports: Client, postgres: Connection
) -> None:
    response = await put(airports, ITEM, ITEM)
    assert [field for field, _ in broken_rules(response, 422, "schema")] == ["items"]
    assert (await stored(postgres))["catalog.items"] == []
