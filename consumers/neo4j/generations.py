"""Generations in Neo4j: label sets `Item`, `Item_2`, … and one node that names the live one.

`(:Generation {key: "neo4j", live: 2, numbers: [1, 2]})`: a switch is one statement on it. Whoever
reads the graph asks it first, `MATCH (g:Generation {key: "neo4j"}) RETURN g.live`, and in the same
transaction reads nodes whose labels have that suffix; those of generation 1 have none. A graph
without that node has nothing else: so whoever deletes it makes generation 1 the live one, as a
check of drift will show.

The node is always asked for with the right to write, so that in a cluster the leader answers: a
writer must not follow a replica that is behind a switch.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from neo4j import AsyncDriver, AsyncSession
from neo4j.exceptions import ConstraintError

from consumers.neo4j.client import ANSWER_SECONDS, require_answer, run
from consumers.neo4j.projection import Guard, Moved, Neo4jProjection, constrain
from consumers.neo4j.shape import Row, Shape
from consumers.projections.generations import Generation
from consumers.projections.projection import Change
from outbox.errors import Halted, SchemaBehind

_FIRST = """MERGE (g:Generation {key: $key})
ON CREATE SET g.live = 1, g.numbers = [1]"""
_LIVE = "MATCH (:Generation {key: $generations, live: $live})"
_READ = "MATCH (g:Generation {key: $key}) RETURN g.live AS live, g.numbers AS numbers"
_ADD = """MATCH (g:Generation {key: $key})
SET g.numbers = [x IN g.numbers WHERE x <> $number] + $number"""
# Nothing is returned where it is no generation, or one that was dropped meanwhile.
_SWITCH = """MATCH (g:Generation {key: $key}) WHERE $number IN g.numbers
SET g.live = $number
RETURN g.live AS live"""
# Compared and set under the node's lock, so that what is live now cannot be dropped.
_REMOVE = """MATCH (g:Generation {key: $key})
SET g._lock = true
REMOVE g._lock
WITH g WHERE g.live <> $number
SET g.numbers = [x IN g.numbers WHERE x <> $number]
RETURN g.live AS live"""
_EMPTY = """MATCH (n:{label}) WITH n LIMIT $limit
DETACH DELETE n
RETURN count(*) AS nodes"""
DROP_PAGE_NODES = 2_000
MAX_NUMBER = 10**9


class Neo4jGenerations:
    """As in Generations, over one database."""

    name = Neo4jProjection.name

    def __init__(
        self,
        driver: AsyncDriver,
        database: str,
        shapes: Iterable[Shape],
        *,
        topics: Iterable[str],
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._driver = driver
        self._database = database
        self._shapes = tuple(shapes)
        self._answer_seconds = answer_seconds
        self._opened: dict[int, Neo4jProjection] = {}
        self._guarded: dict[int, Neo4jProjection] = {}
        self._believed = 1  # to be live; every write asks
        self.aggregates = frozenset(shape.aggregate for shape in self._shapes)
        self.topics = tuple(topics)

    async def prepare(self) -> None:
        """As in Generations."""
        async with self._session() as session:
            await constrain(session, frozenset({"Generation"}))
            with suppress(ConstraintError):  # somebody else was faster
                await session.execute_write(run, _FIRST, {"key": self.name})
        await (await self.live()).prepare()

    async def list_generations(self) -> list[Generation]:
        """As in Generations."""
        live, numbers = await self._read()
        return [Generation(number, number == live) for number in sorted(numbers)]

    async def live(self) -> Neo4jProjection:
        """As in Generations."""
        live, _ = await self._read()
        return self._over(live)

    async def apply(self, changes: Sequence[Change]) -> None:
        """As in Generations; asked in the write itself, as long as nothing is switched."""
        try:
            await self._over_while_live(self._believed).apply(changes)
        except Moved:
            self._believed, _ = await self._read()
            await self._over(self._believed).apply(changes)

    async def create(self, number: int, model: str | None = None) -> Neo4jProjection:
        """As in Generations; a graph has no model."""
        self.require_model(model)
        projection = self._over(number)
        await projection.prepare()
        await self._write(_ADD, number=number)
        return projection

    def require_model(self, model: str | None) -> None:
        """As in Generations."""
        if model is not None:
            raise Halted(f"{self.name} has no embedding model to choose")

    async def switch(self, number: int) -> None:
        """As in Generations."""
        if not await self._write(_SWITCH, number=number):
            raise Halted(f"{self.name} has no generation {number}")

    async def drop(self, number: int) -> None:
        """As in Generations; first it is none any more, so that nobody switches to it."""
        if not await self._write(_REMOVE, number=number):
            raise Halted(f"generation {number} of {self.name} is live: switch to another one first")
        for label in sorted(self._over(number).labels):
            await self._empty(label)
        self._opened.pop(number, None)
        self._guarded.pop(number, None)

    async def _empty(self, label: str) -> None:
        """A page a transaction."""
        nodes = 1
        while nodes:
            (row,) = await self._write(_EMPTY.format(label=label), limit=DROP_PAGE_NODES)
            nodes = row["nodes"]

    async def _read(self) -> tuple[int, list[int]]:
        """SchemaBehind where the node says something that we would not write."""
        rows = await self._write(_READ)
        if not rows:
            return 1, [1]
        live, numbers = rows[0]["live"], rows[0]["numbers"]
        if (
            not _is_number(live)
            or not isinstance(numbers, list)
            or not all(map(_is_number, numbers))
        ):
            raise SchemaBehind(
                f"neo4j's node (:Generation {{key: '{self.name}'}}) says live = {live!r:.50} and "
                f"numbers = {numbers!r:.100}: set live to the number of the live generation, and "
                "numbers to all of them"
            )
        return live, numbers

    async def _write(self, statement: str, **parameters: Any) -> list[Row]:
        async with self._session() as session:
            return await session.execute_write(run, statement, {"key": self.name} | parameters)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[AsyncSession]:
        async with (
            require_answer(self._answer_seconds),
            self._driver.session(database=self._database) as session,
        ):
            yield session

    def _over(self, number: int) -> Neo4jProjection:
        if number not in self._opened:
            self._opened[number] = self._projection(number)
        return self._opened[number]

    def _over_while_live(self, number: int) -> Neo4jProjection:
        if number not in self._guarded:
            guard = Guard(_LIVE, {"generations": self.name, "live": number})
            self._guarded[number] = self._projection(number, guard)
        return self._guarded[number]

    def _projection(self, number: int, guard: Guard | None = None) -> Neo4jProjection:
        return Neo4jProjection(
            self._driver,
            self._database,
            [shape.of_generation(number) for shape in self._shapes],
            topics=self.topics,
            answer_seconds=self._answer_seconds,
            guard=guard,
        )


def _is_number(value: object) -> bool:
    """A generation's; a bool is an int to Python."""
    return type(value) is int and 1 <= value <= MAX_NUMBER
