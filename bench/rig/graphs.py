"""Graphs: one graph for all questions of a run, since its start takes longer than a question."""

from contextlib import AsyncExitStack
from pathlib import Path

from consumers.neo4j.projection import connect
from stack.part import GraphPart
from stack.servers.graph.graph import graph
from stack.settings import StackSettings

PAGE_NODES = 10_000
EMPTY = "MATCH (n) WITH n LIMIT $limit DETACH DELETE n RETURN count(*) AS nodes"


class Graphs:
    """A graph that the first question starts, and that stops when `stack` is closed."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._part: GraphPart | None = None
        self._settings = StackSettings(graph_provider="best", graph_quick_start=False)

    async def empty(self) -> GraphPart:
        """Return the best graph that this machine can run, emptied.

        A server at NEO4J_URL is not ours, and keeps what it holds.
        """
        if self._part is None:
            part = graph(self._folder, self._settings)
            self._part = await self._stack.enter_async_context(part)
        if self._settings.neo4j_url is None:
            await _delete_all(self._part)
        return self._part


async def _delete_all(part: GraphPart) -> None:
    async with connect(part.url, part.user, part.password.get_secret_value()) as driver:
        nodes = 1
        while nodes:
            found = await driver.execute_query(EMPTY, limit=PAGE_NODES, database_=part.database)
            nodes = found.records[0]["nodes"]
