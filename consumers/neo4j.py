"""Neo4j as a projection: one node a key, locked, compared and set in one statement.

Works with Neo4j 5.26 or newer, and with ArcadeDB over Bolt. A Shape says for one aggregate what
its nodes and edges are; the Cypher is built from shapes once, and data travels as parameters only.
Nodes carry `key, version, event_id, digest, deleted` beside the shape's own properties; a delete
leaves a node without properties and edges of its own that keeps the version.

Weaknesses:
- Without the uniqueness constraint MERGE makes duplicates: `prepare` refuses to go on, but nothing
  stops a person from dropping the constraint later.
- A neighbour is merged by its key and never removed: a value that no node has any more stays.
- A version above 2**63 - 1 is refused.
- Two writers may deadlock on a shared neighbour; the driver runs the victim again, for as long as
  its `max_transaction_retry_time`. Then the store counts as down and the batch is repeated.
- In a cluster, `versions` and `scan` see at least what this projection wrote itself; another
  process's writes may be shown late, as an older version.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from typing import Any

from neo4j import AsyncDriver, AsyncGraphDatabase, AsyncManagedTransaction, AsyncSession
from neo4j.exceptions import (
    AuthError,
    ClientError,
    ConnectionPoolError,
    ConstraintError,
    CypherSyntaxError,
    DatabaseError,
    Forbidden,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
    TransientError,
)

from consumers.projection import Change, Entry, StreamKey, latest
from consumers.shape import Edge, Node, Row, Shape
from outbox.errors import DependencyDown, SchemaBehind, rejected

__all__ = ["Edge", "Neo4jProjection", "Node", "Shape", "connect"]

SCAN_PAGE_NODES = 1000
CREATE_RACES = 5
CONNECT_SECONDS = 5.0
RETRY_SECONDS = 15.0

_UNIQUE = frozenset({"UNIQUENESS", "NODE_PROPERTY_UNIQUENESS", "NODE_KEY"})
_DOWN = (
    ServiceUnavailable,
    SessionExpired,
    ConnectionPoolError,
    TransientError,  # outlived the driver's own retries
    AuthError,
    Forbidden,
)
# Wrong for as long as nobody repairs the server or our account; nothing is wrong with the message.
_DOWN_CODES = (
    "Neo.ClientError.Security",
    "Neo.ClientError.Database",
    "Neo.ClientError.Cluster",
    # Forgotten between our MERGE and our lock; the next attempt finds no node, and makes one.
    "Neo.ClientError.Statement.EntityNotFound",
    "Neo.DatabaseError.General",
    "Neo.DatabaseError.Transaction",
)

_ENTRY = "n.key AS key, n.version AS version, n.digest AS digest, n.deleted AS deleted"
_BY_KEY = f"""UNWIND $keys AS key
MATCH (n:{{label}} {{{{key: key}}}}) WHERE n.version > 0
RETURN {_ENTRY}"""
_PAGE = f"""MATCH (n:{{label}}) WHERE n.key > $after AND n.version > 0
RETURN {_ENTRY} ORDER BY n.key LIMIT $limit"""


class Neo4jProjection:
    """A Projection over one database; see the module for its limits.

    `batch_rows` is how many keys share a transaction.
    """

    name = "neo4j"

    def __init__(
        self,
        driver: AsyncDriver,
        database: str,
        shapes: Iterable[Shape],
        *,
        topics: Iterable[str],
        batch_rows: int = 500,
    ) -> None:
        self._shapes = {shape.aggregate: shape for shape in shapes}
        self.aggregates = frozenset(self._shapes)
        self.topics = tuple(topics)
        self._driver = driver
        self._database = database
        self._bookmarks = AsyncGraphDatabase.bookmark_manager()
        self._batch_rows = batch_rows

    async def prepare(self) -> None:
        """Create the constraints that are missing; SchemaBehind if one cannot be had."""
        labels = frozenset().union(*(shape.labels for shape in self._shapes.values()))
        with translated():
            async with self._session() as session:
                for label in sorted(labels - await session.execute_read(_constrained)):
                    await _create_constraint(session, label)
                missing = labels - await session.execute_read(_constrained)
        if missing:
            raise SchemaBehind(_no_constraint(*sorted(missing)))

    async def apply(self, changes: Sequence[Change]) -> None:
        """As in Projection; aggregates and keys in sorted order, so that writers rarely cross."""
        for aggregate, heads in groupby(
            latest(changes), key=lambda change: change.stream.aggregate
        ):
            shape = self._shapes[aggregate]
            rows = [shape.row(change) for change in heads]
            for start in range(0, len(rows), self._batch_rows):
                await self._write(shape.statement, rows[start : start + self._batch_rows])

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        """As in Projection; a placeholder at version 0 is not there yet."""
        entries: dict[StreamKey, Entry] = {}
        for aggregate, group in groupby(sorted(streams), key=lambda stream: stream.aggregate):
            keys = [stream.key for stream in group]
            for start in range(0, len(keys), SCAN_PAGE_NODES):
                page = keys[start : start + SCAN_PAGE_NODES]
                found = await self._read(aggregate, _BY_KEY, keys=page)
                entries |= {entry.stream: entry for entry in found}
        return entries

    async def scan(self) -> AsyncIterator[Entry]:
        """As in Projection, page by page in key order, aggregate by aggregate."""
        for aggregate in sorted(self._shapes):
            after = ""
            while page := await self._read(aggregate, _PAGE, after=after, limit=SCAN_PAGE_NODES):
                for entry in page:
                    yield entry
                after = page[-1].stream.key

    async def forget(self, entries: Sequence[Entry]) -> None:
        """As in Projection; what others' edges lead to becomes a placeholder again."""
        ordered = sorted(entries, key=lambda entry: entry.stream)
        for aggregate, group in groupby(ordered, key=lambda entry: entry.stream.aggregate):
            rows = [_row_of(entry) for entry in group]
            for start in range(0, len(rows), self._batch_rows):
                page = rows[start : start + self._batch_rows]
                await self._write(self._shapes[aggregate].forgetting, page)

    async def _write(self, statement: str, rows: list[Row]) -> None:
        """Write in one transaction; again where somebody else created one of its keys meanwhile.

        Neo4j locks a key that MERGE does not find. ArcadeDB notices at the later commit, and calls
        it a broken constraint; the next attempt finds that node.
        """
        with translated():
            async with self._session() as session:
                for _ in range(CREATE_RACES):
                    with suppress(ConstraintError):
                        await session.execute_write(_run, statement, {"rows": rows})
                        return
                await session.execute_write(_run, statement, {"rows": rows})

    async def _read(self, aggregate: str, template: str, **parameters: Any) -> list[Entry]:
        statement = template.format(label=self._shapes[aggregate].label)
        with translated():
            async with self._session() as session:
                rows = await session.execute_read(_run, statement, parameters)
        return [
            Entry(StreamKey(aggregate, row["key"]), row["version"], row["digest"], row["deleted"])
            for row in rows
        ]

    def _session(self) -> AsyncSession:
        return self._driver.session(database=self._database, bookmark_manager=self._bookmarks)


def _row_of(entry: Entry) -> Row:
    """An entry as `Shape.forgetting` compares it."""
    return {
        "key": entry.stream.key,
        "version": entry.version,
        "digest": entry.digest,
        "deleted": entry.deleted,
    }


def connect(
    url: str, user: str, password: str, *, retry_seconds: float = RETRY_SECONDS
) -> AsyncDriver:
    """A driver with bounded waits; the caller closes it. It connects when it is first used."""
    return AsyncGraphDatabase.driver(
        url,
        auth=(user, password),
        connection_timeout=CONNECT_SECONDS,
        connection_acquisition_timeout=2 * CONNECT_SECONDS,
        max_transaction_retry_time=retry_seconds,
        notifications_min_severity="OFF",
    )


async def _run(
    transaction: AsyncManagedTransaction, statement: str, parameters: Row | None = None
) -> list[Row]:
    """A pure function of its arguments: the driver may call it again."""
    result = await transaction.run(statement, parameters)
    return [record.data() async for record in result]


async def _constrained(transaction: AsyncManagedTransaction) -> frozenset[str]:
    """The labels whose key is unique."""
    rows = await _run(transaction, "SHOW CONSTRAINTS YIELD type, labelsOrTypes, properties")
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
        await session.execute_write(_run, statement)
    except (ConstraintError, DatabaseError, Forbidden) as error:
        raise SchemaBehind(_no_constraint(label)) from error


def _no_constraint(*labels: str) -> str:
    return (
        f"neo4j has no unique `key` for {', '.join(labels)}: merge the nodes that share a key, "
        "grant the right to create constraints, or create them by hand"
    )


@contextmanager
def translated() -> Iterator[None]:
    """The driver's errors in our tree, once; a surprise passes unchanged."""
    try:
        yield
    except _DOWN as error:
        raise DependencyDown("neo4j", error) from error
    except (OverflowError, ValueError) as error:  # the driver cannot even send it
        raise _refused("a value that cannot be stored") from error
    except Neo4jError as error:
        _raise_translated(error)


def _raise_translated(error: Neo4jError) -> None:
    code = error.code or ""
    if code.startswith(_DOWN_CODES):
        raise DependencyDown("neo4j", error) from error
    if isinstance(error, ClientError) and not isinstance(error, CypherSyntaxError):
        raise _refused(code) from error
    raise error


def _refused(what: str) -> Exception:
    return rejected("refused-by-store", "body", f"must be a node that neo4j takes ({what})")
