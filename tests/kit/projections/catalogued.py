"""Items of a catalog, published by plain SQL; `followers.py` has the stores that follow them."""

import psycopg

from consumers.mappings.catalog import ITEM
from consumers.projections.projection import StreamKey
from schemas.catalog import ItemRemoved, ItemUpserted

CATALOG = "drifting"
PUBLISH = "SELECT outbox.publish('catalog.item', %s, %s, %s::jsonb, %s)"
# What retention does before it drops a daily partition.
KEEP = """
INSERT INTO outbox.compacted (aggregatetype, aggregateid, position, id, type, version, topic,
payload, headers, created_at) SELECT aggregatetype, aggregateid, position, id, type,
messages.version, topic, payload, headers, created_at FROM outbox.messages JOIN outbox.streams USING
(aggregatetype, aggregateid, position)
"""

Connection = psycopg.AsyncConnection


def stream(item_id: str) -> StreamKey:
    return StreamKey(ITEM, f"{CATALOG}/{item_id}")


async def publish(postgres: Connection, *items: str, text: str = "so") -> None:
    """Publish the next version of each item, each in a transaction of its own."""
    for item in items:
        event = ItemUpserted(catalog_id=CATALOG, item_id=item, name=item, text=text)
        parameters = [event.key(), event.type, event.payload().decode(), False]
        await postgres.execute(PUBLISH, parameters)


async def remove(postgres: Connection, *items: str) -> None:
    """Publish the deletion of each item, each in a transaction of its own."""
    for item in items:
        event = ItemRemoved(catalog_id=CATALOG, item_id=item)
        parameters = [event.key(), event.type, event.payload().decode(), True]
        await postgres.execute(PUBLISH, parameters)
