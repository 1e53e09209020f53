"""Shape: how an aggregate looks in the graph, and the one statement that writes it.

Labels, edge types and property names come from code; data travels as parameters only.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from consumers.projection import Change
from outbox.errors import rejected

Row = dict[str, Any]

MAX_VERSION = 2**63 - 1

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

_FENCE = """UNWIND $rows AS row
MERGE (n:{label} {{key: row.key}})
ON CREATE SET n.version = 0
SET n._lock = true
REMOVE n._lock
WITH n, row WHERE n.version < row.version
SET n = row.node"""
# An edge that stays is not touched, so that writers do not meet at a neighbour for nothing.
_EDGES = """FOREACH (old IN [
  (n){left}[r:{type}]{right}(m:{label}) WHERE NOT m.key IN [x IN row.edges.{type} | x.key] | r
] | DELETE old)
FOREACH (new IN row.edges.{type} |
  MERGE (m:{label} {{key: new.key}})
  ON CREATE SET m = new
  MERGE (n){left}[:{type}]{right}(m)
)"""

_FORGET = """UNWIND $rows AS row
MATCH (n:{label} {{key: row.key}})
SET n._lock = true
REMOVE n._lock
WITH n, row
WHERE n.version = row.version AND n.digest = row.digest AND n.deleted = row.deleted
SET n = {{key: row.key, version: 0}}"""
_DROP_EDGES = """FOREACH (old IN [(n){left}[r:{type}]{right}(:{label}) | r] | DELETE old)"""
_DROP_NODE = """WITH n
WHERE NOT (n)--()
DELETE n"""


@dataclass(frozen=True, slots=True)
class Edge:
    """A kind of edge that belongs to the node: an event replaces all of them with its own."""

    type: str
    label: str
    incoming: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """What a change says: the node's properties, and its neighbours by the type of the edge.

    A neighbour is its properties, with at least `key`; they are set only if it does not exist.
    """

    properties: Mapping[str, Any] = field(default_factory=dict)
    neighbours: Mapping[str, Iterable[Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shape:
    """How an aggregate looks in the graph. Every word in it comes from code, never from data.

    `describe` is asked for every change that is not a delete; it must be a pure function.
    """

    aggregate: str
    label: str
    describe: Callable[[Change], Node]
    edges: tuple[Edge, ...] = ()

    def __post_init__(self) -> None:
        words = (self.label, *(w for edge in self.edges for w in (edge.type, edge.label)))
        if not all(_WORD.fullmatch(word) for word in words):
            raise ValueError(f"labels and edge types are plain words, not {words}")

    @property
    def labels(self) -> frozenset[str]:
        """What its statement merges: each needs the constraint."""
        return frozenset({self.label, *(edge.label for edge in self.edges)})

    @property
    def statement(self) -> str:
        """Merge, lock, compare, set, and replace the edges, for all `$rows` in one statement.

        Every clause runs over the whole batch before the next, so a key may occur only once.
        A write to the node takes its lock, or (ArcadeDB) makes a concurrent commit fail: only
        after that the version is read. Nodes that have a higher one drop out at the WHERE.
        """
        return "\n".join(
            (_FENCE.format(label=self.label), *(_over(_EDGES, edge) for edge in self.edges))
        )

    @property
    def forgetting(self) -> str:
        """Lock, compare, and take away the node with its edges, for all `$rows` in one statement.

        What other nodes' edges lead to stays, as a placeholder: those edges belong to their events.
        """
        drops = (_over(_DROP_EDGES, edge) for edge in self.edges)
        return "\n".join((_FORGET.format(label=self.label), *drops, _DROP_NODE))

    def row(self, change: Change) -> Row:
        """The change as the statement's row; a delete has neither properties nor neighbours."""
        if change.version > MAX_VERSION:
            raise rejected("refused-by-store", "sequence", "must be at most 2**63 - 1")
        node = Node() if change.deleted else self.describe(change)
        edges = {edge.type: _neighbours(node, edge) for edge in self.edges}
        return {
            "key": change.stream.key,
            "version": change.version,
            "node": {**node.properties, **_own_properties(change)},
            "edges": edges,
        }


def _over(template: str, edge: Edge) -> str:
    """The clause for this kind of edge, in its direction."""
    left, right = ("<-", "-") if edge.incoming else ("-", "->")
    return template.format(type=edge.type, label=edge.label, left=left, right=right)


def _neighbours(node: Node, edge: Edge) -> list[Row]:
    """In key order, each a placeholder until an event of its own comes."""
    found = {other["key"]: other for other in node.neighbours.get(edge.type, ())}
    return [{**found[key], "version": 0} for key in sorted(found)]


def _own_properties(change: Change) -> Row:
    return {
        "key": change.stream.key,
        "version": change.version,
        "event_id": change.event_id,
        "digest": change.digest,
        "deleted": change.deleted,
    }
