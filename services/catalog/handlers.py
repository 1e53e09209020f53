"""Handlers: one async function for each command; only they open a transaction that writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from outbox.errors import build_rejection
from outbox.streams.heads import StreamKey
from outbox.write.database import Database
from schemas.catalog import (
    CatalogCommandSucceeded,
    CatalogCreated,
    CreateCatalog,
    ItemEvent,
    ItemRemoved,
    ItemUpserted,
    RemoveItem,
    UpsertItems,
    item_key,
)
from schemas.envelope import Command, Envelope
from services.catalog import store
from services.catalog.model import Catalog, CatalogItem, find_changed, find_duplicates
from services.dispatcher import Handler


class SearchStore(Protocol):
    """The one question that a command may ask the search store: whether it can be reached."""

    async def available(self) -> bool: ...


@dataclass(frozen=True)
class Context:
    """What the handlers need."""

    database: Database
    search: SearchStore


async def create_catalog(
    context: Context, command: CreateCatalog, cause: Envelope
) -> CatalogCommandSucceeded:
    """Create a catalog; the same one again changes nothing, and another name is refused."""
    async with context.database.unit_of_work("create_catalog", cause=cause) as uow:
        wanted = Catalog(command.catalog_id, command.name)
        created = await store.insert_catalog(uow.connection, wanted)
        if not created and await store.find_catalog(uow.connection, wanted.catalog_id) != wanted:
            raise build_rejection("conflict", "name", "the catalog exists under another name")
        if created:
            uow.publish(CatalogCreated(catalog_id=wanted.catalog_id, name=wanted.name))
        reply = _build_reply(cause, {"created": created})
        await uow.commit(reply)
        return reply


async def upsert_items(
    context: Context, command: UpsertItems, cause: Envelope
) -> CatalogCommandSucceeded:
    """Put the items, all or none; each that differs from what is stored is a new version."""
    items = _read_items(command)
    if command.require_search and not await context.search.available():
        raise build_rejection("search-unavailable", "require_search", "the search store is away")
    async with context.database.unit_of_work("upsert_items", cause=cause) as uow:
        await store.require_catalog(uow.connection, command.catalog_id)
        item_ids = [item.item_id for item in items]
        stored = await store.lock_items(uow.connection, command.catalog_id, item_ids)
        differing = find_changed(items, stored)
        if differing:
            await store.put_items(uow.connection, command.catalog_id, differing)
        for item in differing:
            uow.publish(_build_upserted(item))
        unchanged = len(items) - len(differing)
        reply = _build_reply(cause, {"upserted": len(differing), "unchanged": unchanged})
        await uow.commit(reply)
        return reply


async def remove_item(
    context: Context, command: RemoveItem, cause: Envelope
) -> CatalogCommandSucceeded:
    """Remove an item; refused where there is no such item."""
    async with context.database.unit_of_work("remove_item", cause=cause) as uow:
        if not await store.delete_item(uow.connection, command.catalog_id, command.item_id):
            raise build_rejection("not-found", "item_id", "must name an item of the catalog")
        uow.publish(ItemRemoved(catalog_id=command.catalog_id, item_id=command.item_id))
        reply = _build_reply(cause, {"removed": True})
        await uow.commit(reply)
        return reply


HANDLERS: Mapping[type[Command], Handler] = {
    CreateCatalog: create_catalog,
    UpsertItems: upsert_items,
    RemoveItem: remove_item,
}


def list_touched(command: Command) -> list[StreamKey]:
    """The stream keys to which this command may have published events."""
    if isinstance(command, CreateCatalog):
        return [StreamKey(CatalogCreated.aggregate, command.catalog_id)]
    if isinstance(command, UpsertItems):
        item_ids = [item.item_id for item in command.items]
    elif isinstance(command, RemoveItem):
        item_ids = [command.item_id]
    else:
        raise TypeError(f"{command.type} is not a command of the catalog")
    return [StreamKey(ItemEvent.aggregate, item_key(command.catalog_id, each)) for each in item_ids]


def _read_items(command: UpsertItems) -> list[CatalogItem]:
    twice = find_duplicates(item.item_id for item in command.items)
    if twice:
        raise build_rejection(
            "schema", "items", f"an item may occur only once ({twice[0]} does not)"
        )
    return [
        CatalogItem(command.catalog_id, item.item_id, item.name, item.text, item.attributes)
        for item in command.items
    ]


def _build_upserted(item: CatalogItem) -> ItemUpserted:
    return ItemUpserted(
        catalog_id=item.catalog_id,
        item_id=item.item_id,
        name=item.name,
        text=item.text,
        attributes=dict(item.attributes),
    )


def _build_reply(cause: Envelope, result: dict[str, Any]) -> CatalogCommandSucceeded:
    return CatalogCommandSucceeded(
        command_id=cause.id, command_type=cause.type, subject=cause.key, result=result
    )
