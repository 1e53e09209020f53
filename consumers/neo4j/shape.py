"""Shape: how an aggregate looks in the graph, and the one statement that writes it.

Labels, edge types and property names come from code; data travels as parameters only.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from consumers.neo4j.node import MAX_INTEGER, WORD, Node, check_key, check_properties, refused
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
# An edge that stays is not touched: writers do not meet at a neighbour for nothing, and it is not
# looked for once more. Nobody else changes the edges of a node that is locked.
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

_FORGET = """UNWIND $rows AS row
MATCH (n:{label} {{key: row.key}})
SET n._lock = true
REMOVE n._lock
WITH n, row
WHERE n.version = row.version AND n.digest = row.digest AND n.deleted = row.deleted
SET n = {{key: row.key, version: 0}}"""
# As it was seen and still is, whatever the types of its values.
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
    """A kind of edge that belongs to the node: an event replaces all of them with its own."""

    type: str
    label: str
    incoming: bool = False


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
        if not all(WORD.fullmatch(word) for word in words):
            raise ValueError(f"labels and edge types are plain words, not {words}")

    @property
    def labels(self) -> frozenset[str]:
        """What its statement merges: each needs the constraint."""
        return frozenset({self.label, *(edge.label for edge in self.edges)})

    def of_generation(self, number: int) -> "Shape":
        """The same under labels of their own, `Item_2`; the first generation's have no suffix."""
        if number == 1:
            return self
        edges = tuple(replace(edge, label=f"{edge.label}_{number}") for edge in self.edges)
        return replace(self, label=f"{self.label}_{number}", edges=edges)

    @property
    def statement(self) -> str:
        """Merge, lock, compare, set, and replace the edges, for all `$rows` in one statement.

        Clauses may run over the whole batch before the next, so a key may occur only once. A node
        that is made is nobody else's until the commit. A write to one that is there takes its lock,
        or (ArcadeDB) makes a concurrent commit fail: only after that the version is read. A node is
        set where it has a lower version, and where none of the row's claims is another event of the
        version that it shows.

        One row comes back: how many `rows` there were, which of them `diverged`, and which were
        `passed` over, because what the node shows is not below them: each with what it shows.
        """
        edges = (_over(_EDGES, edge) for edge in self.edges)
        fence = _FENCE.format(label=self.label, parts=",\n  ".join((", ".join(_KNOWN), *edges)))
        replaced = (_over(_REPLACE, edge) for edge in self.edges)
        return "\n".join((fence, *replaced, _ANSWER))

    @property
    def forgetting(self) -> str:
        """Lock, compare, and take away the node with its edges, for all `$rows` in one statement.

        What other nodes' edges lead to stays, as a placeholder: those edges belong to their events.
        """
        drops = (_over(_DROP_EDGES, edge) for edge in self.edges)
        return "\n".join((_FORGET.format(label=self.label), *drops, _DROP_NODE))

    @property
    def displacing(self) -> str:
        """Make placeholders of nodes that are not valid entries, where they are still as seen.

        Edges stay: the event that follows replaces those that are its own.
        """
        return _DISPLACE.format(label=self.label)

    def row(self, change: Change, earlier: Iterable[Change] = ()) -> Row:
        """The change as the statement's row; a delete has neither properties nor neighbours.

        `earlier` are others of its key, to be compared with what the store shows. MessageRejected
        that names the field, where a graph could not hold it.
        """
        if change.version > MAX_INTEGER:
            raise refused("sequence", "must fit into 64 bits")
        check_key("subject", change.stream.key)
        node = Node() if change.deleted else self.describe(change)
        check_properties(self.label, node.properties)
        return {
            "node": {**node.properties, **_own_properties(change)},
            "edges": {edge.type: _neighbours(node, edge) for edge in self.edges},
            "claims": [each.identity._asdict() for each in earlier],
        }


def _over(template: str, edge: Edge) -> str:
    """The clause for this kind of edge, in its direction."""
    left, right = ("<-", "-") if edge.incoming else ("-", "->")
    return template.format(type=edge.type, label=edge.label, left=left, right=right)


def _neighbours(node: Node, edge: Edge) -> list[Row]:
    """In key order, each a placeholder until an event of its own comes."""
    found = {other["key"]: other for other in node.neighbours.get(edge.type, ())}
    for key, other in found.items():
        check_key(f"{edge.type}.key", key)
        check_properties(edge.type, other)
    return [{**found[key], "version": 0} for key in sorted(found)]


def _own_properties(change: Change) -> Row:
    return {
        "key": change.stream.key,
        "version": change.version,
        "event_id": change.event_id,
        "digest": change.digest,
        "deleted": change.deleted,
    }
