"""The catalog service: PostgreSQL holds catalogs and items; a search store and a graph follow.

Start with `handlers`, which has one function for each command, and `routes`, which has one for each
path. It accepts CreateCatalog, UpsertItems and RemoveItem, on `catalog.commands` and over HTTP. It
emits CatalogCreated on `catalog.catalog.events`; ItemUpserted (the item's whole state) and
ItemRemoved on `catalog.item.events`; and one reply to each command on `catalog.command.events`.
It promises that a command has one effect and one reply, however often it is delivered; that the
rows and the events of a command commit together; and that search never shows a removed item once
the store has its tombstone. It does not promise that search shows a write at once; see
services/prefer_wait.py.
"""
