"""Rows of the catalog that were changed by hand (FB2): consistency names them, and no reader stops.

The search store is the local mode of qdrant-client.
"""

import pytest
from qdrant_client import AsyncQdrantClient

from tests.kit.web.lamps import ITEMS, Client, Connection, ask_consistency, project, put

pytestmark = pytest.mark.anyio


async def test_consistency_sees_rows_that_were_changed_by_hand(
    lamps: Client, store: AsyncQdrantClient, postgres: Connection
) -> None:
    """FB2: heads and points agree with each other, and not with the tables."""
    await put(lamps, a={}, b={}, c={})
    await project(store, postgres)
    counts = {"qdrant_items": 3, "qdrant_tombstones": 0}
    assert await ask_consistency(lamps) == counts | {"in_sync": True, "postgres_items": 3}

    await postgres.execute("DELETE FROM catalog.items WHERE item_id = 'a'")
    assert await ask_consistency(lamps) == counts | {
        "in_sync": False, "postgres_items": 2, "rows_missing": ["lamps/a"],
        "counts": {"rows_missing": 1},
    }  # fmt: skip
    await postgres.execute("INSERT INTO catalog.items VALUES ('lamps', 'd', 'd', 'by hand', '{}')")
    await postgres.execute("UPDATE catalog.items SET name = 'x' WHERE item_id = 'b'")
    assert await ask_consistency(lamps) == counts | {
        "in_sync": False, "postgres_items": 3, "rows_missing": ["lamps/a"],
        "rows_orphaned": ["lamps/d"], "rows_different": ["lamps/b"],
        "counts": {"rows_missing": 1, "rows_orphaned": 1, "rows_different": 1},
    }  # fmt: skip


async def test_consistency_sees_a_catalog_whose_own_row_is_gone(
    lamps: Client, store: AsyncQdrantClient, postgres: Connection
) -> None:
    """FB2: its heads and points are there; only what nobody ever made is unknown."""
    await put(lamps, a={})
    await project(store, postgres)
    await postgres.execute("DELETE FROM catalog.items")
    await postgres.execute("DELETE FROM catalog.catalogs")
    assert (await ask_consistency(lamps))["rows_missing"] == ["lamps", "lamps/a"]
    assert (await lamps.get("/catalogs/nobody/consistency")).status_code == 404


# What a row may be altered to that no command could put there.
UNREADABLE = [
    "attributes = '{\"a\": null}'", "attributes = '{\"a\": {\"b\": 1}}'", "attributes = 'null'",
    "attributes = '[]'", "attributes = '[[\"a\", 1]]'", "attributes = '{\"A b\": 1}'",
    "attributes = '{\"a\": 1e400}'", "name = ''", "name = repeat('n', 201)", "text = ''",
]  # fmt: skip


@pytest.mark.parametrize("altered", UNREADABLE)
async def test_a_row_that_no_command_could_put_there_stops_no_reader_and_no_writer(
    lamps: Client, postgres: Connection, altered: str
) -> None:
    """FB2: pages are as full as ever, consistency names it, and the next command mends it."""
    await put(lamps, a={}, b={}, c={}, d={})
    statement = ("UPDATE catalog.items SET", altered, "WHERE item_id IN ('a', 'b')")
    await postgres.execute(" ".join(statement).encode())
    for limit, shown in ((1, ["c"]), (2, ["c", "d"]), (100, ["c", "d"])):
        page = await lamps.get(ITEMS, params={"limit": limit})
        assert [item["item_id"] for item in page.json()] == shown
    refused = await lamps.get(f"{ITEMS}/a")
    assert refused.status_code == 404
    assert "altered by hand" in refused.json()["errors"][0]["rule"]
    await put(lamps, a={})
    assert (await lamps.get(f"{ITEMS}/a")).json()["version"] == 2


async def test_a_catalog_whose_row_no_command_could_put_there_is_told(
    lamps: Client, postgres: Connection
) -> None:
    """FB2"""
    await postgres.execute("UPDATE catalog.catalogs SET name = ''")
    refused = await lamps.get("/catalogs/lamps")
    assert refused.status_code == 404
    assert "altered by hand" in refused.json()["errors"][0]["rule"]


async def test_consistency_names_a_hundred_keys_and_counts_them_all(
    lamps: Client, store: AsyncQdrantClient, postgres: Connection
) -> None:
    """FB2"""
    await put(lamps, **{f"i{number:03}": {} for number in range(120)})
    await project(store, postgres)
    await postgres.execute("DELETE FROM catalog.items")
    document = await ask_consistency(lamps)
    assert document["rows_missing"] == [f"lamps/i{number:03}" for number in range(100)]
    assert document["counts"] == {"rows_missing": 120}
