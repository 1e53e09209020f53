"""Contents: all that a store holds of each key, as a digest to compare by.

Read through the store's own client: what our projections do not show counts too, as a point's
vector and fields, a node's properties and an item's edges.
"""

import asyncio
from collections.abc import Container
from hashlib import sha256
from typing import Any, NamedTuple

import orjson
from neo4j import AsyncDriver
from qdrant_client import AsyncQdrantClient, models

PAGE = 20_000

CLOSE = 1e-6  # a store that normalises a vector again changes its last bits


class Content(NamedTuple):
    """A digest of all, or of all but the vector, which is then beside it."""

    digest: bytes
    vector: tuple[float, ...] = ()

    def same(self, other: "Content") -> bool:
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


async def points(client: AsyncQdrantClient, collection: str, rewritten: Container[str]) -> Contents:
    """Of every point, by the key in its payload, or its id where it has none.

    Those that will have been rewritten when they are compared have their vector beside.
    """
    found: Contents = {}
    offset: Any = None
    while True:
        records, offset = await client.scroll(
            collection, limit=PAGE, offset=offset, with_payload=True, with_vectors=True
        )
        for record in records:
            key = (record.payload or {}).get("key", str(record.id))
            found[key] = _of_point(record, beside=key in rewritten)
        if offset is None:
            return found
        await asyncio.sleep(0)  # local mode never waits for anything, so others never ran


async def nodes(driver: AsyncDriver, database: str) -> Contents:
    """Of every node, by its label and key."""
    found: Contents = {}
    for label in LABELS:
        statement = NODES.format(label=label, edges=EDGES if label == "Item" else "")
        after = ""
        while page := await _page(driver, database, statement, after):
            found |= {f"{label} {row['key']}": _of_node(row) for row in page}
            after = page[-1]["key"]
    return found


async def _page(
    driver: AsyncDriver, database: str, statement: str, after: str
) -> list[dict[str, Any]]:
    answer = await driver.execute_query(statement, after=after, limit=PAGE, database_=database)
    return [record.data() for record in answer.records]


def _of_point(record: models.Record, *, beside: bool) -> Content:
    if beside and isinstance(record.vector, list):
        return Content(_digest(record.id, record.payload), tuple(map(float, record.vector)))  # type: ignore[arg-type] # of numbers
    return Content(_digest(record.id, record.payload, record.vector))


def _of_node(row: dict[str, Any]) -> Content:
    edges = (sorted(row.get(end) or ()) for end in ("outgoing", "incoming"))
    return Content(_digest(row["node"], *edges))


def _digest(*parts: Any) -> bytes:
    return sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS, default=list)).digest()


def find_touched(before: Contents, after: Contents, written: frozenset[str]) -> list[str]:
    """Which are not the same any more, came, or went, beside those that somebody wrote.

    `written` are keys, without a label.
    """
    return sorted(
        name
        for name in before.keys() | after.keys()
        if name.rpartition(" ")[2] not in written and not _same(before.get(name), after.get(name))
    )


def _same(one: Content | None, other: Content | None) -> bool:
    return one is not None and other is not None and one.same(other)
