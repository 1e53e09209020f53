"""Shapes of the catalog's items with the usual bugs, and one that counts its effects.

Each differs from the real shape in a few words of its statement.
"""

from neo4j import AsyncDriver

from consumers.mappings.catalog import ITEM, ITEM_TOPIC, item_node
from consumers.neo4j.projection import Edge, Neo4jProjection, Node, Shape
from consumers.projections.projection import Change

HAS = Edge("HAS", "Attribute")


def described(change: Change) -> Node:
    """The item and its attributes, without the catalog: every writer would wait for its lock."""
    node = item_node(change)
    return Node(node.properties, {"HAS": node.neighbours["HAS"]})


def over_items(driver: AsyncDriver, database: str, kind: type[Shape] = Shape) -> Neo4jProjection:
    """A projection of the items alone."""
    shape = kind(ITEM, "Item", described, edges=(HAS,))
    return Neo4jProjection(driver, database, [shape], topics=[ITEM_TOPIC])


class Counted(Shape):
    """Counts how often an event took effect, on a node of its own."""

    @property
    def statement(self) -> str:
        counting = """SET n = node
  MERGE (effect:Effect {key: node.event_id})
  ON CREATE SET effect.times = 0
  SET effect.times = effect.times + 1)"""
        return changed(super().statement, "SET n = node)", counting)


class Suspicious(Counted):
    """M20: it counts a version that is already there as a failure, whoever wrote it."""

    @property
    def statement(self) -> str:
        right = "other.event_id <> n.event_id OR other.digest <> n.digest"
        return changed(super().statement, right, "true")


class Unlocked(Shape):
    """It reads the version before it has the node's lock."""

    @property
    def statement(self) -> str:
        return changed(super().statement, "ON MATCH SET n._lock = true\nREMOVE n._lock\n", "")


def changed(statement: str, right: str, wrong: str) -> str:
    """The statement with its one occurrence of `right` replaced."""
    assert statement.count(right) == 1
    return statement.replace(right, wrong)
