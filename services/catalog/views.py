"""Views: the bodies that the catalog's HTTP callers send and get."""

from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from outbox.streams.difference import Difference, DifferenceKind
from outbox.streams.heads import Entry
from outbox.streams.own_rows import RowDifference
from schemas.catalog import MAX_ITEMS_PER_COMMAND, Attributes, Id, Item, Name, Text, item_key
from services.catalog.model import Catalog
from services.catalog.store import VersionedItem

log = structlog.get_logger()

SHOWN_KEYS = 100
JFK: dict[str, Any] = {
    "item_id": "JFK",
    "name": "John F Kennedy Intl",
    "text": "An airport in New York",
    "attributes": {"state": "NY", "elevation_feet": 13, "international": True},
}
POINT_KINDS = ("missing", "stale", "orphaned", "different")
ROW_KINDS = (DifferenceKind.MISSING, DifferenceKind.ORPHANED, DifferenceKind.DIFFERENT)


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

    @classmethod
    def of(cls, catalog: Catalog, items: int) -> Self | None:
        """The view; None where the row was altered by hand to what no command could put there."""
        with suppress(ValidationError):
            return cls(catalog_id=catalog.catalog_id, name=catalog.name, items=items)
        _warn(catalog.catalog_id)
        return None


class ItemView(BaseModel):
    catalog_id: Id
    item_id: Id
    name: Name
    text: Text
    attributes: Attributes
    version: int

    @classmethod
    def of(cls, found: VersionedItem) -> Self | None:
        """The view; None where the row was altered by hand to what no command could put there."""
        item = found.item
        with suppress(ValidationError):
            return cls.model_validate(asdict(item) | {"version": found.version})
        _warn(item_key(item.catalog_id, item.item_id))
        return None


def _warn(key: str) -> None:
    """Log a row that is left out of an answer; the consistency route names it, too."""
    log.warning("a row is none that a command put there", key=key)


class HitView(BaseModel):
    item_id: Id
    name: Name
    score: float
    version: int
    attributes: Attributes


class Consistency(BaseModel):
    """Exact counts of both stores, and the keys that differ (at most 100 of each kind).

    `missing`, `stale`, `orphaned` and `different` are keys whose point is not what the stream head
    says, and `foreign` ids of points that are none of ours; `rows_missing`, `rows_orphaned` and
    `rows_different` keys whose row is not what the head and its latest event say. `counts` has the
    exact number of each kind that there is.
    """

    in_sync: bool
    postgres_items: int
    qdrant_items: int
    qdrant_tombstones: int
    missing: list[str]
    stale: list[str]
    orphaned: list[str]
    different: list[str]
    foreign: list[str]
    rows_missing: list[str]
    rows_orphaned: list[str]
    rows_different: list[str]
    counts: dict[str, int]

    @classmethod
    def of(
        cls, items: int, shown: list[Entry], difference: Difference, rows: RowDifference
    ) -> Self:
        found = {kind: [each.key for each in getattr(difference, kind)] for kind in POINT_KINDS}
        found["foreign"] = difference.foreign
        counts = {kind: len(keys) for kind, keys in found.items()}
        own = {f"rows_{kind}": [each.key for each in rows.of(kind)] for kind in ROW_KINDS}
        counts |= {f"rows_{kind}": rows.counts[kind] for kind in ROW_KINDS}
        tombstones = sum(entry.deleted for entry in shown)
        return cls(
            in_sync=not any(counts.values()),
            postgres_items=items,
            qdrant_items=len(shown) - tombstones,
            qdrant_tombstones=tombstones,
            counts={kind: number for kind, number in counts.items() if number},
            **{kind: keys[:SHOWN_KEYS] for kind, keys in (found | own).items()},
        )
