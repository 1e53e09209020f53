"""Contents: all that a store holds of each key, as a digest to compare by.

It is read through the store's own client. So what our projections do not show counts, too: a
point's vector and fields, a node's properties, and an item's edges.
"""

import asyncio
from collections.abc import Container
from hashlib import sha256
from typing import Any, NamedTuple

import orjson
from neo4j import AsyncDriver
from qdrant_client import AsyncQdrantClient, models

PAGE = 20_000

CLOSE = 1e-6  # a store that normalises a vector once more changes its last bits


class Content(NamedTuple):
    """A digest of all that is held of a key; or of all but the vector, if that stands beside it."""

    digest: bytes
    vector: tuple[float, ...] = ()

    def matches(self, other: "Content") -> bool:
        """Return whether the digests are equal, and the vectors but for their last bits."""
        return self.digest == other.digest and all(
            abs(one - another) < CLOSE
            for one, another in zip(self.vector, other.vector, strict=True)
        )


Contents = dict[str, Content]

LABELS = ("Item", "Catalog", "Attribute")
NODES = """
MATCH (n:{label}) WHERE n.key > $after
RETURN n.key AS key, properties(n) AS node{edges}
ORDER BY n.key LIMIT $limit
"""
EDGES = """,
       [(n)-[r]->(m) | type(r) + ' ' + m.key] AS outgoing,
       [(n)<-[r]-(m) | type(r) + ' ' + m.key] AS incoming"""


async def read_points(
    client: AsyncQdrantClient, collection: str, rewritten: Container[str]
) -> Contents:
    """Return every point's content, by the key in its payload, or by its id if it has none.

    The keys in `rewritten` will be written again before they are compared: their vectors stand
    beside their digests.
    """
    found: Contents = {}
    offset: Any = None
    while True:
        records, offset = await client.scroll(
            collection, limit=PAGE, offset=offset, with_payload=True, with_vectors=True
        )
        for record in records:
            key = (record.payload or {}).get("key", str(record.id))
            found[key] = _digest_point(record, vector_beside=key in rewritten)
        if offset is None:
            return found
        await asyncio.sleep(0)  # local mode never waits, so no other task would run


async def read_nodes(driver: AsyncDriver, database: str) -> Contents:
    """Return every node's content, by its label and key."""
    found: Contents = {}
    for label in LABELS:
        statement = NODES.format(label=label, edges=EDGES if label == "Item" else "")
        after = ""
        while page := await _read_page(driver, database, statement, after):
            found |= {f"{label} {row['key']}": _digest_node(row) for row in page}
            after = page[-1]["key"]
    return found


async def _read_page(
    driver: AsyncDriver, database: str, statement: str, after: str
) -> list[dict[str, Any]]:
    answer = await driver.execute_query(statement, after=after, limit=PAGE, database_=database)
    return [record.data() for record in answer.records]


def _digest_point(record: models.Record, *, vector_beside: bool) -> Content:
    if vector_beside and isinstance(record.vector, list):
        return Content(_digest(record.id, record.payload), tuple(map(float, record.vector)))  # type: ignore[arg-type] # of numbers
    return Content(_digest(record.id, record.payload, record.vector))


def _digest_node(row: dict[str, Any]) -> Content:
    edges = (sorted(row.get(end) or ()) for end in ("outgoing", "incoming"))
    return Content(_digest(row["node"], *edges))


def _digest(*parts: Any) -> bytes:
    return sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS, default=list)).digest()


def find_touched(before: Contents, after: Contents, written: frozenset[str]) -> list[str]:
    """Return the names whose content changed, that are new, or that are gone, in order.

    Keys that were written meanwhile do not count: `written` has them, without a label.
    """
    return sorted(
        name
        for name in before.keys() | after.keys()
        if name.rpartition(" ")[2] not in written
        and not _both_match(before.get(name), after.get(name))
    )


def _both_match(one: Content | None, other: Content | None) -> bool:
    return one is not None and other is not None and one.matches(other)
