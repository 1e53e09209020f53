"""What the catalog's events look like in the secondary stores.

In Qdrant an item is a point. In Neo4j the graph is
(:Catalog)-[:CONTAINS]->(:Item)-[:HAS]->(:Attribute); both kinds of edges belong to the item's
events, so that a catalog may come before or after its items.
"""

from neo4j import AsyncDriver
from qdrant_client import AsyncQdrantClient, models

from consumers.neo4j.client import ANSWER_SECONDS
from consumers.neo4j.generations import Neo4jGenerations
from consumers.neo4j.projection import Edge, Neo4jProjection, Node, Shape
from consumers.projections.projection import Change
from consumers.qdrant.generations import Embedders, QdrantGenerations
from consumers.qdrant.projection import Document, Embedder, QdrantProjection
from schemas.catalog import COLLECTION, CatalogCreated, ItemEvent, ItemUpserted

ITEM = ItemEvent.aggregate
CATALOG = CatalogCreated.aggregate
ITEM_TOPIC = ItemEvent.topic
CATALOG_TOPIC = CatalogCreated.topic


def document(change: Change) -> Document:
    """The item as a document: its name and text are searched, its other fields filter.

    Raises TypeError where the event is not an item's.
    """
    if not isinstance(change.event, ItemEvent):
        raise TypeError(f"{change.event.type} says nothing of an item")
    identity = {"catalog_id": change.event.catalog_id, "item_id": change.event.item_id}
    if not isinstance(change.event, ItemUpserted):
        return Document("", identity)
    item = change.event
    fields = identity | {"name": item.name, "attributes": dict(item.attributes)}
    return Document(f"{item.name}\n{item.text}", fields)


def item_node(change: Change) -> Node:
    """The item, with its catalog and a node for each `name=value`, which items share."""
    item = _require_item(change)
    pairs = item.attributes.items()
    attributes = [{"key": f"{n}={to_text(v)}", "name": n, "value": v} for n, v in pairs]
    return Node(
        {"item_id": item.item_id, "catalog_id": item.catalog_id, "name": item.name},
        {"CONTAINS": [{"key": item.catalog_id}], "HAS": attributes},
    )


def catalog_node(change: Change) -> Node:
    """The catalog by its name; the edges come with its items' events."""
    if not isinstance(change.event, CatalogCreated):
        raise TypeError(f"{change.event.type} says nothing of a catalog")
    return Node({"name": change.event.name})


def to_text(value: str | bool | float) -> str:
    """The text of a value in the key of its attribute's node: `true`, `3`, `2.5`, or the text.

    Two values have the same node only if they are equal. So a text that reads as a bool or a
    number, or that begins with a quotation mark, is put into quotation marks.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return f'"{value}"' if value.startswith('"') or _reads_as_other_type(value) else value


def _reads_as_other_type(text: str) -> bool:
    """Whether this is the text of a bool or a number."""
    if text in {"true", "false"}:
        return True
    try:
        return to_text(float(text)) == text
    except ValueError:
        return False


CATALOG_SHAPE = Shape(CATALOG, "Catalog", catalog_node)
ITEM_SHAPE = Shape(
    ITEM,
    "Item",
    item_node,
    edges=(Edge("CONTAINS", "Catalog", incoming=True), Edge("HAS", "Attribute")),
)


def catalog_qdrant(
    client: AsyncQdrantClient, embedder: Embedder, collection: str = COLLECTION
) -> QdrantProjection:
    """The items, searchable by meaning, in one collection, which may be one of generations."""
    return QdrantProjection(
        client,
        collection,
        document,
        embedder,
        aggregates=[ITEM],
        topics=[ITEM_TOPIC],
        indexes={"fields.catalog_id": models.PayloadSchemaType.KEYWORD},
    )


def catalog_vector_generations(
    client: AsyncQdrantClient, embedders: Embedders, model: str
) -> QdrantGenerations:
    """The generations of the items; COLLECTION is the alias of the live one."""
    return QdrantGenerations(
        client,
        COLLECTION,
        lambda collection, embedder: catalog_qdrant(client, embedder, collection),
        embedders,
        model,
    )


def catalog_neo4j(
    driver: AsyncDriver, database: str, *, answer_seconds: float = ANSWER_SECONDS
) -> Neo4jProjection:
    """Catalogs, items and their attributes as a graph."""
    return Neo4jProjection(
        driver,
        database,
        (CATALOG_SHAPE, ITEM_SHAPE),
        topics=[CATALOG_TOPIC, ITEM_TOPIC],
        answer_seconds=answer_seconds,
    )


def catalog_graph_generations(
    driver: AsyncDriver, database: str, *, answer_seconds: float = ANSWER_SECONDS
) -> Neo4jGenerations:
    """The generations of the catalog's graph, which differ by the suffix of their labels."""
    first = catalog_neo4j(driver, database, answer_seconds=answer_seconds)
    return Neo4jGenerations(driver, database, first, answer_seconds=answer_seconds)


def _require_item(change: Change) -> ItemUpserted:
    if not isinstance(change.event, ItemUpserted):
        raise TypeError(f"{change.event.type} says nothing of an item")
    return change.event
