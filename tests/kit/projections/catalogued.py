"""Items of a catalog, published by plain SQL, and stores that follow them."""

from collections.abc import AsyncIterator, Iterable, Sequence

import psycopg

from consumers.mappings.catalog import ITEM, ITEM_TOPIC
from consumers.projections.projection import Entry, Projection, StreamKey, read_change
from consumers.projections.testing.memory import MemoryProjection
from outbox.streams.latest import read_latest
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


async def follow(
    postgres: Connection, projection: Projection, streams: Iterable[StreamKey]
) -> None:
    """Apply the latest messages of these keys, as a consumer does."""
    found = (await read_latest(postgres, streams)).values()
    await projection.apply([read_change(envelope) for envelope in found if envelope])


def memory() -> MemoryProjection:
    """A projection in memory, for tests that need no real store."""
    return MemoryProjection([ITEM], [ITEM_TOPIC])


class Scripted(MemoryProjection):
    """A projection in memory whose scan returns what a test says; `versions` stays true."""

    def __init__(self, scanned: Sequence[Entry]) -> None:
        super().__init__([ITEM], [ITEM_TOPIC])
        self.scanned = scanned

    async def scan(self) -> AsyncIterator[Entry]:
        for entry in self.scanned:
            yield entry
