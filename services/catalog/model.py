"""Catalogs and items, and the rules that hold for them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Attribute = str | bool | float


@dataclass(frozen=True, slots=True)
class Catalog:
    """A named collection of items."""

    catalog_id: str
    name: str


@dataclass(frozen=True, slots=True)
class CatalogItem:
    """What is searched for: `text` is embedded, `attributes` filter and connect."""

    catalog_id: str
    item_id: str
    name: str
    text: str
    attributes: Mapping[str, Attribute]


def find_duplicates(item_ids: Iterable[str]) -> list[str]:
    """The ids that occur more than once: an item has one state in a command."""
    return sorted(item_id for item_id, times in Counter(item_ids).items() if times > 1)


def find_changed(
    items: Iterable[CatalogItem], stored: Mapping[str, CatalogItem]
) -> list[CatalogItem]:
    """The items that differ from what is stored: only a change is a new version."""
    return [item for item in items if not is_same(item, stored.get(item.item_id))]


def is_same(one: CatalogItem, other: CatalogItem | None) -> bool:
    """Whether two items are equal, and their attributes' types too: to Python, True equals 1."""
    return one == other and other is not None and _list_types(one) == _list_types(other)


def _list_types(item: CatalogItem) -> dict[str, type[Attribute]]:
    return {name: type(value) for name, value in item.attributes.items()}
