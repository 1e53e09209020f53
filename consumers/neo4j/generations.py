"""Generations in Neo4j: label sets `Item`, `Item_2`, … and one node that names the live one.

The node is `(:Generation {key: "neo4j", live: 2, numbers: [1, 2]})`, and a switch is one statement
on it. A reader of the graph asks it first, `MATCH (g:Generation {key: "neo4j"}) RETURN g.live`, and
in the same transaction reads nodes whose labels have that suffix; the labels of generation 1 have
no suffix. Without that node, generation 1 counts as live: so whoever deletes the node switches to
generation 1, which a drift check will show.

The node is always read in a write transaction, so that in a cluster the leader answers: a writer
must not follow a replica that has not seen a switch yet.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from neo4j import AsyncDriver, AsyncSession
from neo4j.exceptions import ConstraintError

from consumers.neo4j.client import ANSWER_SECONDS, require_answer, run
from consumers.neo4j.constraints import create_constraints
from consumers.neo4j.projection import Guard, GuardUnmatched, Neo4jProjection
from consumers.neo4j.shape import Row
from consumers.projections.generations import Generation
from consumers.projections.projection import Change
from outbox.errors import Halted, StoreUnfit

_FIRST = """MERGE (g:Generation {key: $key})
ON CREATE SET g.live = 1, g.numbers = [1]"""
_LIVE = "MATCH (:Generation {key: $generations, live: $live})"
_READ = "MATCH (g:Generation {key: $key}) RETURN g.live AS live, g.numbers AS numbers"
_ADD = """MATCH (g:Generation {key: $key})
SET g.numbers = [x IN g.numbers WHERE x <> $number] + $number"""
# Returns no row where there is no such generation, or where it was dropped meanwhile.
_SWITCH = """MATCH (g:Generation {key: $key}) WHERE $number IN g.numbers
SET g.live = $number
RETURN g.live AS live"""
# It compares and sets under the node's lock, so that the live generation cannot be dropped.
_REMOVE = """MATCH (g:Generation {key: $key})
SET g._lock = true
REMOVE g._lock
WITH g WHERE g.live <> $number
SET g.numbers = [x IN g.numbers WHERE x <> $number]
RETURN g.live AS live"""
_DELETE_PAGE = """MATCH (n:{label}) WITH n LIMIT $limit
DETACH DELETE n
RETURN count(*) AS nodes"""
DROP_PAGE_NODES = 2_000
MAX_NUMBER = 10**9


class Neo4jGenerations:
    """The Generations of a graph in one database; see the module.

    `first` is the projection over generation 1, in the same database. `answer_seconds` is how long
    a transaction may take before the store counts as down.
    """

    name = Neo4jProjection.name

    def __init__(
        self,
        driver: AsyncDriver,
        database: str,
        first: Neo4jProjection,
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._driver = driver
        self._database = database
        self._first = first
        self._answer_seconds = answer_seconds
        self._projections: dict[int, Neo4jProjection] = {}
        self._guarded: dict[int, Neo4jProjection] = {}
        self._assumed_live = 1  # every write checks it
        self.aggregates = first.aggregates
        self.topics = first.topics

    async def prepare(self) -> None:
        """Make the first generation where there is none, and prepare the live one."""
        async with self._session() as session:
            await create_constraints(session, frozenset({"Generation"}))
            with suppress(ConstraintError):  # another process was faster
                await session.execute_write(run, _FIRST, {"key": self.name})
        await (await self.live()).prepare()

    async def list_generations(self) -> list[Generation]:
        """All generations that the node names, in the order of their numbers."""
        live, numbers = await self._read_numbers()
        return [Generation(number, number == live) for number in sorted(numbers)]

    async def live(self) -> Neo4jProjection:
        """The projection over the live generation; StoreUnfit where the node was altered."""
        live, _ = await self._read_numbers()
        return self._projection(live)

    async def apply(self, changes: Sequence[Change]) -> None:
        """Apply the changes to the live generation.

        Each write itself checks which generation is live. After a switch, all changes are applied
        again to the new one.
        """
        try:
            await self._guarded_projection(self._assumed_live).apply(changes)
        except GuardUnmatched:
            self._assumed_live, _ = await self._read_numbers()
            await self._projection(self._assumed_live).apply(changes)

    async def create(self, number: int, model: str | None = None) -> Neo4jProjection:
        """Make this generation, or take it as it is, and prepare it. It does not become live."""
        self.require_model(model)
        projection = self._projection(number)
        await projection.prepare()
        await self._write(_ADD, number=number)
        return projection

    def require_model(self, model: str | None) -> None:
        """Raise Halted for any model: a graph has none."""
        if model is not None:
            raise Halted(f"{self.name} has no embedding model to choose")

    async def switch(self, number: int) -> None:
        """Make this generation live, in one statement; Halted where it does not exist."""
        if not await self._write(_SWITCH, number=number):
            raise Halted(f"{self.name} has no generation {number}")

    async def drop(self, number: int) -> None:
        """Remove this generation; Halted where it is the live one.

        Its number goes first, so that nobody switches to it while its nodes are deleted.
        """
        if not await self._write(_REMOVE, number=number):
            raise Halted(f"generation {number} of {self.name} is live: switch to another one first")
        for label in sorted(self._projection(number).labels):
            await self._delete_nodes(label)
        self._projections.pop(number, None)
        self._guarded.pop(number, None)

    async def _delete_nodes(self, label: str) -> None:
        """Delete all nodes of a label, one page a transaction."""
        nodes = 1
        while nodes:
            (row,) = await self._write(_DELETE_PAGE.format(label=label), limit=DROP_PAGE_NODES)
            nodes = row["nodes"]

    async def _read_numbers(self) -> tuple[int, list[int]]:
        """The live number and all numbers; StoreUnfit where we would not have written them so."""
        rows = await self._write(_READ)
        if not rows:
            return 1, [1]
        live, numbers = rows[0]["live"], rows[0]["numbers"]
        if (
            not _is_number(live)
            or not isinstance(numbers, list)
            or not all(map(_is_number, numbers))
        ):
            raise StoreUnfit(
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

    def _projection(self, number: int) -> Neo4jProjection:
        if number not in self._projections:
            self._projections[number] = self._first.of_generation(number)
        return self._projections[number]

    def _guarded_projection(self, number: int) -> Neo4jProjection:
        if number not in self._guarded:
            guard = Guard(_LIVE, {"generations": self.name, "live": number})
            self._guarded[number] = self._first.of_generation(number, guard)
        return self._guarded[number]


def _is_number(value: object) -> bool:
    """Whether it is a generation's number; in Python a bool is an int."""
    return type(value) is int and 1 <= value <= MAX_NUMBER
