"""Graphs: one graph for all questions of a run, since it takes longer to start than to ask."""

from contextlib import AsyncExitStack
from pathlib import Path

from consumers.neo4j.projection import connect
from stack.part import GraphPart
from stack.servers.graph.graph import graph
from stack.settings import StackSettings

PAGE_NODES = 10_000
EMPTY = "MATCH (n) WITH n LIMIT $limit DETACH DELETE n RETURN count(*) AS nodes"


class Graphs:
    """Started by the first question that asks; gone with the stack that it is made with."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._part: GraphPart | None = None
        self._settings = StackSettings(graph_provider="best", graph_quick_start=False)

    async def empty(self) -> GraphPart:
        """The best that this machine has the means for, emptied; but a server at NEO4J_URL keeps
        what it holds: it is not ours."""
        if self._part is None:
            part = graph(self._folder, self._settings)
            self._part = await self._stack.enter_async_context(part)
        if self._settings.neo4j_url is None:
            await _emptied(self._part)
        return self._part


async def _emptied(part: GraphPart) -> None:
    async with connect(part.url, part.user, part.password.get_secret_value()) as driver:
        nodes = 1
        while nodes:
            found = await driver.execute_query(EMPTY, limit=PAGE_NODES, database_=part.database)
            nodes = found.records[0]["nodes"]
