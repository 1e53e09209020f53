"""catalog: PostgreSQL holds catalogs and items; a search store and a graph follow.

Accepts (on `catalog.commands` and over HTTP): CreateCatalog, UpsertItems, RemoveItem.
Emits: CatalogCreated on `catalog.catalog.events`; ItemUpserted (the item's whole state) and
ItemRemoved on `catalog.item.events`; one answer to each command on `catalog.command.events`.
Promises: a command has one effect and one answer, however often it is delivered; the rows and the
events of a command commit together; search never shows a removed item once the store has its
tombstone.
"""
