"""Airports: the demo's input, the 3,376 US airports in the package vega-datasets."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

from schemas.catalog import CreateCatalog, Item, RemoveItem, UpsertItems
from schemas.envelope import Command
from services.catalog.model import Attribute

CATALOG_ID = "us-airports"
CHANGED = 300
REMOVED = 50


@dataclass(frozen=True, slots=True)
class Airport:
    """One airport of the data set."""

    iata: str
    name: str
    city: str
    state: str
    latitude: float
    longitude: float

    def item(self, note: str = "") -> Item:
        """Return the catalog's item for this airport; `note` ends its text."""
        attributes: dict[str, Attribute] = {
            "state": self.state,
            "city": self.city,
            "latitude": self.latitude,
            "longitude": self.longitude,
        }
        text = f"{self.name} airport in {self.city}, {self.state}, USA{note}"
        return Item(item_id=self.iata, name=self.name, text=text, attributes=attributes)


def read(limit: int | None = None) -> list[Airport]:
    """Return the airports, at most `limit` of them, in the order of the file."""
    text = (files("vega_datasets") / "_data" / "airports.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return [_to_airport(row) for row in rows][:limit]


def _to_airport(row: dict[str, str]) -> Airport:
    return Airport(
        iata=row["iata"],
        name=row["name"],
        city=row["city"],
        state=row["state"],
        latitude=float(row["latitude"]),
        longitude=float(row["longitude"]),
    )


def create_catalog() -> CreateCatalog:
    return CreateCatalog(catalog_id=CATALOG_ID, name="Airports of the United States")


def commands(airports: Sequence[Airport]) -> Iterator[Command]:
    """Yield commands that put every airport in, then change up to 300 and remove up to 50 others.

    At most half of the airports are changed and a quarter removed, so a small demo does all three.
    """
    changed = min(CHANGED, len(airports) // 2)
    removed = min(REMOVED, len(airports) // 4)
    yield from (_upsert(airport) for airport in airports)
    yield from (_upsert(airport, " (runway renewed)") for airport in airports[:changed])
    for airport in airports[len(airports) - removed :]:
        yield RemoveItem(catalog_id=CATALOG_ID, item_id=airport.iata)


def _upsert(airport: Airport, note: str = "") -> UpsertItems:
    return UpsertItems(catalog_id=CATALOG_ID, items=(airport.item(note),))
