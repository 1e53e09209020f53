"""The commands and events of the catalog service."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from schemas import reply
from schemas.envelope import Command, Event
from schemas.number import keep_exactly

Id = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$",
        min_length=1,
        max_length=100,
        description="Letters, digits and . _ : - ; starts with a letter or digit.",
    ),
]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(min_length=1, max_length=20_000, description="What is embedded.")]
AttributeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=50)]
AttributeText = Annotated[str, Field(max_length=500)]
AttributeNumber = Annotated[float, Field(allow_inf_nan=False)]
AttributeValue = Annotated[AttributeText | bool | AttributeNumber, BeforeValidator(keep_exactly)]
Attributes = Annotated[dict[AttributeName, AttributeValue], Field(max_length=50)]

MAX_ITEMS_PER_COMMAND = 500

# The search store's alias of the items' collection: the projection writes it, the service reads it.
COLLECTION = "catalog-items"


class Item(BaseModel):
    """One item as a caller gives it: all of it, not a change to it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    item_id: Id
    name: Name
    text: Text
    attributes: Attributes = Field(default_factory=dict)


class CatalogCommand(Command):
    """What all commands of a catalog share."""

    topic: ClassVar[str] = "catalog.commands"

    catalog_id: Id


class CreateCatalog(CatalogCommand):
    """Create a catalog, or leave it as it is when it exists under the same name."""

    type: ClassVar[str] = "catalog.create-catalog.v1"

    name: Name

    def key(self) -> str:
        return self.catalog_id


class UpsertItems(CatalogCommand):
    """Put whole items into a catalog, all or none; an item that is the same already stays.

    `require_search` refuses the command while the search store cannot be reached; without
    it the rows commit and the store follows when it is back.
    """

    type: ClassVar[str] = "catalog.upsert-items.v1"

    items: Annotated[tuple[Item, ...], Field(min_length=1, max_length=MAX_ITEMS_PER_COMMAND)]
    require_search: bool = False

    def key(self) -> str:
        if len(self.items) == 1:
            return item_key(self.catalog_id, self.items[0].item_id)
        return self.catalog_id


class RemoveItem(CatalogCommand):
    """Take an item out of a catalog; refused when it is not there."""

    type: ClassVar[str] = "catalog.remove-item.v1"

    item_id: Id

    def key(self) -> str:
        return item_key(self.catalog_id, self.item_id)


class CatalogCreated(Event):
    """A catalog exists, under this name."""

    type: ClassVar[str] = "catalog.catalog-created.v1"
    topic: ClassVar[str] = "catalog.catalog.events"
    aggregate: ClassVar[str] = "catalog.catalog"

    catalog_id: Id
    name: Name

    def key(self) -> str:
        return self.catalog_id


class ItemEvent(Event):
    """What all events of an item share."""

    topic: ClassVar[str] = "catalog.item.events"
    aggregate: ClassVar[str] = "catalog.item"

    catalog_id: Id
    item_id: Id

    def key(self) -> str:
        return item_key(self.catalog_id, self.item_id)


class ItemUpserted(ItemEvent):
    """The whole state of an item at this version, so that any projection can start from it."""

    type: ClassVar[str] = "catalog.item-upserted.v1"

    name: Name
    text: Text
    attributes: Attributes = Field(default_factory=dict)


class ItemRemoved(ItemEvent):
    """The item is gone."""

    type: ClassVar[str] = "catalog.item-removed.v1"
    deletes: ClassVar[bool] = True


class CatalogCommandSucceeded(reply.CommandSucceeded):
    """A catalog command is done."""

    type: ClassVar[str] = "catalog.command-succeeded.v1"
    topic: ClassVar[str] = "catalog.command.events"
    aggregate: ClassVar[str] = "catalog.command"


class CatalogCommandRejected(reply.CommandRejected):
    """A catalog command was refused and changed nothing."""

    type: ClassVar[str] = "catalog.command-rejected.v1"
    topic: ClassVar[str] = "catalog.command.events"
    aggregate: ClassVar[str] = "catalog.command"


def item_key(catalog_id: str, item_id: str) -> str:
    """The aggregate id of an item; neither part can hold a slash."""
    return f"{catalog_id}/{item_id}"


MESSAGES: tuple[type[Command] | type[Event], ...] = (
    CreateCatalog,
    UpsertItems,
    RemoveItem,
    CatalogCreated,
    ItemUpserted,
    ItemRemoved,
    CatalogCommandSucceeded,
    CatalogCommandRejected,
)
