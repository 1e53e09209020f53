"""Entries in Neo4j: the nodes of a label, read with as little trust as a message.

Anyone with the right to write may have made a node, or changed one of ours; so every value may be
missing, or of another type. This is the one place where nodes become entries.
"""

from collections.abc import Iterable, Iterator

from consumers.neo4j.shape import Row
from consumers.projections.projection import Entry, ForeignEntry
from outbox.streams.stored_entries import StoredEntry, read_entry

_ENTRY = """n.key AS key, n.version AS version, n.event_id AS event_id, n.digest AS digest,
  n.deleted AS deleted, elementId(n) AS place"""
BY_KEY = f"""UNWIND $keys AS key
MATCH (n:{{label}} {{{{key: key}}}})
RETURN {_ENTRY}"""
PAGE = f"""MATCH (n:{{label}}) WHERE n.key > $after
RETURN {_ENTRY} ORDER BY n.key LIMIT $limit"""
# Nodes that the page above cannot reach: their key is missing, empty or no text.
WITHOUT_KEY = f"""MATCH (n:{{label}}) WHERE NOT coalesce(n.key > '', false)
RETURN {_ENTRY} ORDER BY place SKIP $skip LIMIT $limit"""


def read_nodes(aggregate: str, nodes: Iterable[Row]) -> Iterator[Entry | ForeignEntry]:
    """The entries that these rows of the queries above are.

    A placeholder is left out: no event of its own has come yet.
    """
    for node in nodes:
        if not _is_placeholder(node):
            read = _read_node(aggregate, node)
            yield ForeignEntry(str(node["place"]), read) if isinstance(read, str) else read.entry


def find_foreign(aggregate: str, passed: Iterable[Row]) -> dict[str, Row]:
    """The nodes that are no valid entries of their keys, by key.

    `passed` is what a shape's statement returns of the keys that it did not write.
    """
    return {
        row["key"]: row["shown"]
        for row in passed
        if isinstance(_read_node(aggregate, {**row["shown"], "key": row["key"]}), str)
    }


def _read_node(aggregate: str, node: Row) -> StoredEntry | str:
    return read_entry({**node, "aggregate": aggregate}, (aggregate,))


def _is_placeholder(node: Row) -> bool:
    """Whether another node's edge made this node, and no event of its own has come yet."""
    version, rest = node["version"], (node["event_id"], node["digest"], node["deleted"])
    is_zero = type(version) is int and version == 0
    return is_zero and isinstance(node["key"], str) and rest == (None, None, None)
