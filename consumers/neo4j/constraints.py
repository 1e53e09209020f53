"""Constraints: the unique `key` of each label, without which MERGE makes duplicates."""

from neo4j import AsyncManagedTransaction, AsyncSession
from neo4j.exceptions import ConstraintError, DatabaseError, Forbidden

from consumers.neo4j.client import run
from outbox.errors import StoreUnfit

_UNIQUE = frozenset({"UNIQUENESS", "NODE_PROPERTY_UNIQUENESS", "NODE_KEY"})


async def create_constraints(session: AsyncSession, labels: frozenset[str]) -> None:
    """Make the constraints that are missing; StoreUnfit where one cannot be had."""
    for label in sorted(labels - await session.execute_read(_read_constrained)):
        await _create_constraint(session, label)
    if missing := labels - await session.execute_read(_read_constrained):
        raise StoreUnfit(_describe_missing(*sorted(missing)))


async def _read_constrained(transaction: AsyncManagedTransaction) -> frozenset[str]:
    """The labels whose `key` is unique."""
    rows = await run(transaction, "SHOW CONSTRAINTS YIELD type, labelsOrTypes, properties")
    return frozenset(
        row["labelsOrTypes"][0]
        for row in rows
        if row["type"] in _UNIQUE and row["properties"] == ["key"]
    )


async def _create_constraint(session: AsyncSession, label: str) -> None:
    statement = (
        f"CREATE CONSTRAINT {label.lower()}_key IF NOT EXISTS "
        f"FOR (n:{label}) REQUIRE n.key IS UNIQUE"
    )
    try:
        await session.execute_write(run, statement)
    except (ConstraintError, DatabaseError, Forbidden) as error:
        raise StoreUnfit(_describe_missing(label)) from error


def _describe_missing(*labels: str) -> str:
    return (
        f"neo4j has no unique `key` for {', '.join(labels)}: merge the nodes that share a key, "
        "grant the right to create constraints, or create them by hand"
    )
