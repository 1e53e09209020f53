"""Views: what the catalog's HTTP callers send and are shown."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from outbox.streams import Difference, Entry
from schemas.catalog import MAX_ITEMS_PER_COMMAND, Attributes, Id, Item, Name, Text
from services.catalog.store import VersionedItem

SHOWN_KEYS = 100
JFK: dict[str, Any] = {
    "item_id": "JFK",
    "name": "John F Kennedy Intl",
    "text": "An airport in New York",
    "attributes": {"state": "NY", "elevation_feet": 13, "international": True},
}


class NewCatalog(BaseModel):
    """The body of POST /catalogs."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"catalog_id": "airports", "name": "Airports"}]},
    )

    catalog_id: Id
    name: Name


class Items(BaseModel):
    """The body of PUT /catalogs/{catalog_id}/items."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"items": [JFK]}]}
    )

    items: Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS_PER_COMMAND)]
    require_search: bool = False


class CommandAnswer(BaseModel):
    """What a command did; the same at every delivery."""

    command_id: str
    result: dict[str, Any]


class CatalogView(BaseModel):
    catalog_id: Id
    name: Name
    items: int


class ItemView(BaseModel):
    catalog_id: Id
    item_id: Id
    name: Name
    text: Text
    attributes: Attributes
    version: int

    @classmethod
    def of(cls, found: VersionedItem) -> Self:
        item = found.item
        return cls(
            catalog_id=item.catalog_id,
            item_id=item.item_id,
            name=item.name,
            text=item.text,
            attributes=dict(item.attributes),
            version=found.version,
        )


class HitView(BaseModel):
    item_id: Id
    name: Name
    score: float
    version: int
    attributes: Attributes


class Consistency(BaseModel):
    """Exact counts of both stores, and the keys that differ (at most 100 of each kind)."""

    in_sync: bool
    postgres_items: int
    qdrant_items: int
    qdrant_tombstones: int
    missing: list[str]
    stale: list[str]
    orphaned: list[str]
    different: list[str]

    @classmethod
    def of(cls, items: int, shown: list[Entry], difference: Difference) -> Self:
        kinds = {
            kind: [stream.key for stream in getattr(difference, kind)[:SHOWN_KEYS]]
            for kind in ("missing", "stale", "orphaned", "different")
        }
        tombstones = sum(entry.deleted for entry in shown)
        return cls(
            in_sync=difference.keys == 0,
            postgres_items=items,
            qdrant_items=len(shown) - tombstones,
            qdrant_tombstones=tombstones,
            **kinds,
        )
