"""Neo4j as a projection: one node a key, locked, compared and set in one statement.

Works with Neo4j 5.26 or newer, and with ArcadeDB over Bolt. A Shape says for one aggregate what
its nodes and edges are; the Cypher is built from shapes once, and data travels as parameters only.
Nodes carry `key, version, event_id, digest, deleted` beside the shape's own properties; a delete
leaves a node without properties and edges of its own that keeps the version.

Weaknesses:
- Without the uniqueness constraint MERGE makes duplicates: `prepare` refuses to go on, but nothing
  stops an operator from dropping the constraint later.
- A neighbour is merged by its key and never removed: a value that no node has any more stays.
- A value that a graph cannot hold is refused by the name of its field, and so is a key of more than
  8,000 bytes; consumers/neo4j/node.py has the rules.
- A transaction that takes longer than the limit on answers counts as an outage and is repeated, for
  ever if it always does. The largest one took 5 s while 23 others wanted the same two cores.
- Two writers may deadlock on a shared neighbour; the driver runs the victim again, for as long as
  its `max_transaction_retry_time`. Then the store counts as down and the batch is repeated.
- In a cluster, `versions` and `scan` see at least what this projection wrote itself. They may see
  another process's writes late, as an older version.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any, NamedTuple

import structlog
from neo4j import AsyncDriver, AsyncGraphDatabase, AsyncSession
from neo4j.exceptions import ClientError

from consumers.neo4j.client import ANSWER_SECONDS, connect, is_race, require_answer, run
from consumers.neo4j.constraints import create_constraints
from consumers.neo4j.entries import BY_KEY, PAGE, WITHOUT_KEY, find_foreign, read_nodes
from consumers.neo4j.node import Node
from consumers.neo4j.shape import Edge, Row, Shape
from consumers.projections.divergence import Divergence, refuse_divergent, split_divergent
from consumers.projections.projection import (
    Change,
    Entry,
    EventIdentity,
    ForeignEntry,
    StreamKey,
    batch_by_key,
    keep_latest,
)
from outbox.errors import MessageRejected, Violation
from outbox.runtime.pages import paginate

__all__ = ["Edge", "Neo4jProjection", "Node", "Shape", "connect"]

log = structlog.get_logger()

SCAN_PAGE_NODES = 5_000  # a page costs a round trip and its planning, so large ones are faster
RACES = 5  # how often a write that lost a race is repeated
PREPARE_SECONDS = 600.0  # a new constraint checks all existing nodes


class Guard(NamedTuple):
    """A MATCH clause before each write, with its parameters.

    Where it finds nothing, nothing is written.
    """

    clause: str
    parameters: Row


class GuardUnmatched(Exception):
    """The guard finds nothing any more. The first batches of the `apply` may have been written."""


class Neo4jProjection:
    """A Projection over one database; the module lists its weaknesses.

    At most `batch_rows` keys, with at most `batch_neighbours` neighbours together, share a
    transaction; a key with more neighbours has a transaction of its own. `answer_seconds` is how
    long one may take, the driver's repetitions included, before the store counts as down. With a
    `guard`, `apply` raises GuardUnmatched where the guard finds nothing.
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
        batch_neighbours: int = 5_000,
        answer_seconds: float = ANSWER_SECONDS,
        guard: Guard | None = None,
    ) -> None:
        self._shapes = {shape.aggregate: shape for shape in shapes}
        self.aggregates = frozenset(self._shapes)
        self.topics = tuple(topics)
        self._driver = driver
        self._database = database
        self._bookmarks = AsyncGraphDatabase.bookmark_manager()
        self._batch_rows = batch_rows
        self._batch_neighbours = batch_neighbours
        self._answer_seconds = answer_seconds
        self._guard = guard or Guard("", {})
        self._statements = {
            aggregate: f"{self._guard.clause}\n{shape.statement}".strip()
            for aggregate, shape in self._shapes.items()
        }

    def of_generation(self, number: int, guard: Guard | None = None) -> "Neo4jProjection":
        """The same projection over the labels of this generation, with this guard."""
        return Neo4jProjection(
            self._driver,
            self._database,
            [shape.of_generation(number) for shape in self._shapes.values()],
            topics=self.topics,
            batch_rows=self._batch_rows,
            batch_neighbours=self._batch_neighbours,
            answer_seconds=self._answer_seconds,
            guard=guard,
        )

    @property
    def labels(self) -> frozenset[str]:
        """The labels of all nodes that it writes."""
        return frozenset().union(*(shape.labels for shape in self._shapes.values()))

    async def prepare(self) -> None:
        """Create the constraints that are missing; StoreUnfit where one cannot be had."""
        async with self._session(PREPARE_SECONDS) as session:
            await create_constraints(session, self.labels)

    async def apply(self, changes: Sequence[Change]) -> None:
        """Apply the changes, in the order of aggregates and keys, so that writers rarely deadlock.

        Raises MessageRejected, with the reason `diverged` or `refused-by-store`.
        """
        divergences: list[Divergence] = []
        for batch in batch_by_key(changes, self._batch_rows):
            flowing, diverging = split_divergent(batch, {})
            divergences += diverging
            for aggregate, group in groupby(flowing, key=lambda change: change.stream.aggregate):
                divergences += await self._apply_heads(self._shapes[aggregate], list(group))
        refuse_divergent(self.name, divergences)

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        """What the graph holds of these keys, tombstones included; placeholders are absent."""
        entries: dict[StreamKey, Entry] = {}
        for aggregate, group in groupby(sorted(streams), key=lambda stream: stream.aggregate):
            for page in paginate((stream.key for stream in group), SCAN_PAGE_NODES):
                found = await self._read(aggregate, BY_KEY, keys=page)
                stored = read_nodes(aggregate, found)
                entries |= {each.stream: each for each in stored if isinstance(each, Entry)}
        return entries

    async def scan(self) -> AsyncIterator[Entry | ForeignEntry]:
        """Everything in the graph, aggregate by aggregate, page by page in key order."""
        for aggregate in sorted(self._shapes):
            async for page in self._read_pages(aggregate):
                for entry in read_nodes(aggregate, page):
                    yield entry

    async def _read_pages(self, aggregate: str) -> AsyncIterator[list[Row]]:
        """Yield pages of nodes, at last those that no key leads to; a short page ends each kind."""
        limit, after, skip = SCAN_PAGE_NODES, "", 0
        while True:
            page = await self._read(aggregate, PAGE, after=after, limit=limit)
            yield page
            if len(page) < limit:
                break
            after = page[-1]["key"]
        while True:
            page = await self._read(aggregate, WITHOUT_KEY, skip=skip, limit=limit)
            yield page
            if len(page) < limit:
                break
            skip += len(page)

    async def delete_if_unchanged(self, entries: Sequence[Entry]) -> None:
        """Delete these entries where they are unchanged.

        A node that other nodes' edges lead to becomes a placeholder again.
        """
        ordered = sorted(entries, key=lambda entry: entry.stream)
        for aggregate, group in groupby(ordered, key=lambda entry: entry.stream.aggregate):
            for page in paginate(map(_build_row, group), self._batch_rows):
                await self._write(self._shapes[aggregate].delete_statement, page)

    async def _apply_heads(self, shape: Shape, changes: Sequence[Change]) -> list[Divergence]:
        """Write the highest version of each key; return the divergences, whose keys stay."""
        claims: dict[str, list[Change]] = {}
        for change in changes:
            claims.setdefault(change.stream.key, []).append(change)
        heads = keep_latest(changes)
        rows = [
            shape.build_row(head, (c for c in claims[head.stream.key] if c is not head))
            for head in heads
        ]
        divergences: list[Divergence] = []
        for batch in _batch_by_neighbours(rows, self._batch_neighbours):
            answer = await self._write_guarded(shape, batch)
            if foreign := find_foreign(shape.aggregate, answer["passed"]):
                answer = await self._displace(shape, batch, foreign, answer)
            divergences += [_read_divergence(row, claims[row["key"]]) for row in answer["diverged"]]
        return divergences

    async def _write_guarded(self, shape: Shape, rows: list[Row]) -> Row:
        (answer,) = await self._write(self._statements[shape.aggregate], rows)
        if answer["rows"] == 0:
            raise GuardUnmatched
        return answer

    async def _displace(
        self, shape: Shape, rows: list[Row], foreign: Mapping[str, Row], answer: Row
    ) -> Row:
        """Make room where foreign nodes were in the way, and write these rows again.

        Raises MessageRejected where a foreign node stays.
        """
        for key in foreign:
            log.warning("overwrites a foreign entry", store=self.name, label=shape.label, key=key)
        seen = [{**shown, "key": key} for key, shown in foreign.items()]
        await self._write(shape.displace_statement, seen)
        again = await self._write_guarded(shape, [r for r in rows if r["node"]["key"] in foreign])
        if left := find_foreign(shape.aggregate, again["passed"]):
            rule = "must find its place free: remove the foreign {} node from neo4j"
            rules = [Violation("body", f"{k} {rule.format(shape.label)}") for k in sorted(left)]
            raise MessageRejected("refused-by-store", *rules)
        others = [row for row in answer["diverged"] if row["key"] not in foreign]
        return {"diverged": [*others, *again["diverged"]]}

    async def _write(self, statement: str, rows: list[Row]) -> list[Row]:
        """Write in one transaction; repeat it where another one made or deleted one of its nodes.

        Neo4j locks a key that MERGE does not find. ArcadeDB notices at the later commit, and calls
        it a broken constraint; the next attempt finds that node. A node that is deleted between our
        MERGE and our lock is not found; the next attempt makes it.
        """
        parameters = {"rows": rows} | self._guard.parameters
        async with self._session() as session:
            for _ in range(RACES):
                try:
                    return await session.execute_write(run, statement, parameters)
                except ClientError as error:
                    if not is_race(error):
                        raise
            return await session.execute_write(run, statement, parameters)

    async def _read(self, aggregate: str, template: str, **parameters: Any) -> list[Row]:
        statement = template.format(label=self._shapes[aggregate].label)
        async with self._session() as session:
            return await session.execute_read(run, statement, parameters)

    @asynccontextmanager
    async def _session(self, seconds: float | None = None) -> AsyncIterator[AsyncSession]:
        async with (
            require_answer(seconds or self._answer_seconds),
            self._driver.session(
                database=self._database, bookmark_manager=self._bookmarks
            ) as session,
        ):
            yield session


def _build_row(entry: Entry) -> Row:
    """An entry in the form that `Shape.delete_statement` compares."""
    return {
        "key": entry.stream.key,
        "version": entry.version,
        "digest": entry.digest,
        "deleted": entry.deleted,
    }


def _batch_by_neighbours(rows: Iterable[Row], most: int) -> Iterator[list[Row]]:
    """Split the rows into batches of at least one row and at most `most` neighbours together."""
    batch: list[Row] = []
    neighbours = 0
    for row in rows:
        own = sum(map(len, row["edges"].values()))
        if batch and neighbours + own > most:
            yield batch
            batch, neighbours = [], 0
        batch.append(row)
        neighbours += own
    if batch:
        yield batch


def _read_divergence(row: Row, claims: Iterable[Change]) -> Divergence:
    """The divergence that the statement returned for a key, found among that key's changes."""
    claim = EventIdentity(*(row["claim"][name] for name in EventIdentity._fields))
    change = next(change for change in claims if change.identity == claim)
    return Divergence(
        change, EventIdentity(*(row["shown"][name] for name in EventIdentity._fields))
    )
