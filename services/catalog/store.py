"""Store: every statement on the catalog's tables but those of own_rows. Nothing commits here."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from outbox.errors import MessageRejected, build_rejection
from services.catalog.model import Catalog, CatalogItem

FIND_CATALOG = text("SELECT catalog_id, name FROM catalog.catalogs WHERE catalog_id = :catalog_id")

# Of two concurrent commands, the second waits for the first and inserts nothing.
INSERT_CATALOG = text(
    "INSERT INTO catalog.catalogs (catalog_id, name) VALUES (:catalog_id, :name)"
    " ON CONFLICT (catalog_id) DO NOTHING"
)

# In key order, so that two commands over the same items lock them in the same order.
LOCK_ITEMS = text(
    "SELECT catalog_id, item_id, name, text, attributes FROM catalog.items"
    " WHERE catalog_id = :catalog_id AND item_id = ANY (:item_ids)"
    " ORDER BY item_id FOR UPDATE"
)

# In key order, for the same reason. If another command has inserted a row since LOCK_ITEMS, this
# statement waits for that command and overwrites its row; this command's event follows that one's.
PUT_ITEMS = text(
    "INSERT INTO catalog.items (catalog_id, item_id, name, text, attributes)"
    " SELECT :catalog_id, * FROM unnest(CAST(:item_ids AS text[]), CAST(:names AS text[]),"
    "                                   CAST(:texts AS text[]), CAST(:attributes AS jsonb[]))"
    "        AS item (item_id, name, text, attributes)"
    ' ORDER BY item_id COLLATE "C"'
    " ON CONFLICT (catalog_id, item_id) DO UPDATE SET name = EXCLUDED.name,"
    "   text = EXCLUDED.text, attributes = EXCLUDED.attributes, updated_at = now()"
)

DELETE_ITEM = text(
    "DELETE FROM catalog.items WHERE catalog_id = :catalog_id AND item_id = :item_id"
)

# An item's version is that of its stream head.
READ_ITEM = (
    "SELECT item.catalog_id, item.item_id, item.name, item.text, item.attributes, head.version"
    " FROM catalog.items AS item JOIN outbox.streams AS head"
    "   ON head.aggregatetype = 'catalog.item'"
    "  AND head.aggregateid = item.catalog_id || '/' || item.item_id"
    " WHERE item.catalog_id = :catalog_id"
)
FIND_ITEM = text(READ_ITEM + " AND item.item_id = :item_id")
LIST_ITEMS = text(READ_ITEM + " AND item.item_id > :after ORDER BY item.item_id LIMIT :limit")
COUNT_ITEMS = text("SELECT count(*) FROM catalog.items WHERE catalog_id = :catalog_id")


class VersionedItem(NamedTuple):
    """An item and its present version."""

    item: CatalogItem
    version: int


async def find_catalog(connection: AsyncConnection, catalog_id: str) -> Catalog | None:
    row = (await connection.execute(FIND_CATALOG, {"catalog_id": catalog_id})).one_or_none()
    return Catalog(*row) if row else None


async def require_catalog(connection: AsyncConnection, catalog_id: str) -> Catalog:
    """The catalog; MessageRejected where there is none."""
    catalog = await find_catalog(connection, catalog_id)
    if catalog is None:
        raise build_no_catalog()
    return catalog


def build_no_catalog() -> MessageRejected:
    """The rejection of a request or command that names no catalog."""
    return build_rejection("not-found", "catalog_id", "must name an existing catalog")


async def insert_catalog(connection: AsyncConnection, catalog: Catalog) -> bool:
    """Insert a catalog; False if it is there already."""
    result = await connection.execute(
        INSERT_CATALOG, {"catalog_id": catalog.catalog_id, "name": catalog.name}
    )
    return bool(result.rowcount)


async def lock_items(
    connection: AsyncConnection, catalog_id: str, item_ids: Sequence[str]
) -> dict[str, CatalogItem]:
    """Lock those of the items that exist until the transaction ends; returns them by id."""
    rows = await connection.execute(
        LOCK_ITEMS, {"catalog_id": catalog_id, "item_ids": list(item_ids)}
    )
    return {row.item_id: _read_item(row) for row in rows}


async def put_items(
    connection: AsyncConnection, catalog_id: str, items: Sequence[CatalogItem]
) -> None:
    """Insert these items, and replace those that are there already."""
    parameters = {
        "catalog_id": catalog_id,
        "item_ids": [item.item_id for item in items],
        "names": [item.name for item in items],
        "texts": [item.text for item in items],
        "attributes": [orjson.dumps(item.attributes).decode() for item in items],
    }
    await connection.execute(PUT_ITEMS, parameters)


async def delete_item(connection: AsyncConnection, catalog_id: str, item_id: str) -> bool:
    """Delete an item; False if there is no such item."""
    result = await connection.execute(DELETE_ITEM, {"catalog_id": catalog_id, "item_id": item_id})
    return bool(result.rowcount)


async def find_item(
    connection: AsyncConnection, catalog_id: str, item_id: str
) -> VersionedItem | None:
    rows = await connection.execute(FIND_ITEM, {"catalog_id": catalog_id, "item_id": item_id})
    row = rows.one_or_none()
    return _read_versioned(row) if row else None


async def list_items(
    connection: AsyncConnection, catalog_id: str, after: str, limit: int
) -> list[VersionedItem]:
    """At most `limit` items whose ids follow `after`, in the order of the ids."""
    parameters = {"catalog_id": catalog_id, "after": after, "limit": limit}
    return [_read_versioned(row) for row in await connection.execute(LIST_ITEMS, parameters)]


async def count_items(connection: AsyncConnection, catalog_id: str) -> int:
    return int((await connection.execute(COUNT_ITEMS, {"catalog_id": catalog_id})).scalar_one())


def _read_versioned(row: Any) -> VersionedItem:
    return VersionedItem(_read_item(row), row.version)


def _read_item(row: Any) -> CatalogItem:
    """The item that was put. jsonb writes 1e23 out in digits, so numbers become floats again.

    What was put there by hand instead stays as it is: no command's item is equal to it.
    """
    attributes = row.attributes
    if isinstance(attributes, dict):
        attributes = {name: _read_attribute(value) for name, value in attributes.items()}
    return CatalogItem(row.catalog_id, row.item_id, row.name, row.text, attributes)


def _read_attribute(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            return float(value)
    return value
