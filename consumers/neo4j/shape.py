"""Shape: how an aggregate looks in the graph, and the one statement that writes it.

Labels, edge types and property names come from code; data travels as parameters only.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from consumers.neo4j.node import MAX_INTEGER, WORD, Node, build_refusal, check_key, check_properties
from consumers.projections.projection import Change

Row = dict[str, Any]

_FENCE = """UNWIND $rows AS row
MERGE (n:{label} {{key: row.node.key}})
ON MATCH SET n._lock = true
REMOVE n._lock
WITH n, row, [
  other IN row.claims + row.node WHERE other.version = n.version
  AND (other.event_id <> n.event_id OR other.digest <> n.digest) | other
] AS others, {{
  version: coalesce(n.version, 0), event_id: n.event_id, digest: n.digest, deleted: n.deleted
}} AS shown
WITH n, row, others, shown, size(others) = 0 AND shown.version < row.node.version AS newer
WITH {parts}
FOREACH (node IN CASE WHEN newer THEN [row.node] ELSE [] END | SET n = node)"""
_KNOWN = ("n", "row", "others", "shown", "newer")
_EDGES = "[(n){left}[r:{type}]{right}(m:{label}) WHERE newer | [r, m.key]] AS old_{type}"
# An edge that stays is not touched: so writers do not wait at a neighbour for nothing, and the edge
# is not looked up again. Nobody else changes the edges of a node that is locked.
_REPLACE = """FOREACH (gone IN [
  old IN old_{type} WHERE NOT old[1] IN [x IN row.edges.{type} | x.key] | old[0]
] | DELETE gone)
FOREACH (new IN [
  x IN row.edges.{type} WHERE newer AND NOT x.key IN [old IN old_{type} | old[1]]
] |
  MERGE (m:{label} {{key: new.key}})
  ON CREATE SET m = new
  MERGE (n){left}[:{type}]{right}(m)
)"""
_ANSWER = """WITH count(*) AS rows, collect(
  CASE WHEN size(others) > 0 THEN {key: row.node.key, claim: others[0], shown: shown} END
) AS diverged, collect(
  CASE WHEN NOT coalesce(newer, false) THEN {key: row.node.key, shown: shown} END
) AS passed
RETURN rows, diverged, passed"""

_DELETE = """UNWIND $rows AS row
MATCH (n:{label} {{key: row.key}})
SET n._lock = true
REMOVE n._lock
WITH n, row
WHERE n.version = row.version AND n.digest = row.digest AND n.deleted = row.deleted
SET n = {{key: row.key, version: 0}}"""
# Compares each value as it was read, whatever its type, so that a changed node stays.
_DISPLACE = """UNWIND $rows AS row
MATCH (n:{label} {{key: row.key}})
SET n._lock = true
REMOVE n._lock
WITH n, row
WHERE (n.version = row.version OR n.version IS NULL AND row.version IS NULL)
  AND (n.event_id = row.event_id OR n.event_id IS NULL AND row.event_id IS NULL)
  AND (n.digest = row.digest OR n.digest IS NULL AND row.digest IS NULL)
  AND (n.deleted = row.deleted OR n.deleted IS NULL AND row.deleted IS NULL)
SET n = {{key: row.key, version: 0}}"""
_DROP_EDGES = """FOREACH (old IN [(n){left}[r:{type}]{right}(:{label}) | r] | DELETE old)"""
_DROP_NODE = """WITH n
WHERE NOT (n)--()
DELETE n"""


@dataclass(frozen=True, slots=True)
class Edge:
    """A kind of edge that belongs to a node: each event of the node replaces all of them."""

    type: str
    label: str
    incoming: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """How an aggregate looks in the graph. Every word in it comes from code, never from data.

    `describe` is called for every change that is not a delete; it must be a pure function. Labels
    and edge types that are no plain words raise ValueError.
    """

    aggregate: str
    label: str
    describe: Callable[[Change], Node]
    edges: tuple[Edge, ...] = ()

    def __post_init__(self) -> None:
        words = (self.label, *(w for edge in self.edges for w in (edge.type, edge.label)))
        if not all(WORD.fullmatch(word) for word in words):
            raise ValueError(f"labels and edge types are plain words, not {words}")

    @property
    def labels(self) -> frozenset[str]:
        """The labels that its statement merges; each needs the unique constraint."""
        return frozenset({self.label, *(edge.label for edge in self.edges)})

    def of_generation(self, number: int) -> "Shape":
        """The same shape with this generation's labels, `Item_2`; generation 1 has no suffix."""
        if number == 1:
            return self
        edges = tuple(replace(edge, label=f"{edge.label}_{number}") for edge in self.edges)
        return replace(self, label=f"{self.label}_{number}", edges=edges)

    @property
    def statement(self) -> str:
        """Merge, lock, compare, set, and replace the edges, for all `$rows` in one statement.

        A clause may run over the whole batch before the next clause does, so a key may occur only
        once. Nobody else sees a node that is made here until the commit. A write to an existing
        node takes its lock, or (ArcadeDB) makes a concurrent commit fail; only after that its
        version is read. A node is set where its version is lower, and where none of the row's
        claims is another event of the version that the node has.

        It returns one row: how many `rows` there were, which of them `diverged`, and which were
        `passed` over because the node's version is not below theirs. Each of these comes with
        `shown`, which is what the node holds.
        """
        edges = (_render_clause(_EDGES, edge) for edge in self.edges)
        fence = _FENCE.format(label=self.label, parts=",\n  ".join((", ".join(_KNOWN), *edges)))
        replaced = (_render_clause(_REPLACE, edge) for edge in self.edges)
        return "\n".join((fence, *replaced, _ANSWER))

    @property
    def delete_statement(self) -> str:
        """Lock, compare, and delete the node with its own edges, for all `$rows` in one statement.

        A node that other nodes' edges lead to stays, as a placeholder: those edges belong to other
        events.
        """
        drops = (_render_clause(_DROP_EDGES, edge) for edge in self.edges)
        return "\n".join((_DELETE.format(label=self.label), *drops, _DROP_NODE))

    @property
    def displace_statement(self) -> str:
        """Turn foreign nodes into placeholders, where they are still as they were read.

        Their edges stay: the event that follows replaces those that belong to it.
        """
        return _DISPLACE.format(label=self.label)

    def build_row(self, change: Change, earlier: Iterable[Change] = ()) -> Row:
        """The statement's row for a change; a delete has neither properties nor neighbours.

        `earlier` are the other changes of its key, whose identities the statement compares with
        the stored one. Raises MessageRejected that names the field which a graph cannot hold.
        """
        if change.version > MAX_INTEGER:
            raise build_refusal("sequence", "must fit into 64 bits")
        check_key("subject", change.stream.key)
        node = Node() if change.deleted else self.describe(change)
        check_properties(self.label, node.properties)
        return {
            "node": {**node.properties, **_own_properties(change)},
            "edges": {edge.type: _list_neighbours(node, edge) for edge in self.edges},
            "claims": [each.identity._asdict() for each in earlier],
        }


def _render_clause(template: str, edge: Edge) -> str:
    """The clause for this kind of edge, in its direction."""
    left, right = ("<-", "-") if edge.incoming else ("-", "->")
    return template.format(type=edge.type, label=edge.label, left=left, right=right)


def _list_neighbours(node: Node, edge: Edge) -> list[Row]:
    """The edge's neighbours in key order, each a placeholder until an event of its own comes."""
    found = {other["key"]: other for other in node.neighbours.get(edge.type, ())}
    for key, other in found.items():
        check_key(f"{edge.type}.key", key)
        check_properties(edge.type, other)
    return [{**found[key], "version": 0} for key in sorted(found)]


def _own_properties(change: Change) -> Row:
    """The entry of the change; its aggregate is the node's label."""
    entry = change.build_entry()
    del entry["aggregate"]
    return entry
