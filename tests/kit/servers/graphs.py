"""Graph servers of a test's own, and a watch that notices when a key's version falls."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from consumers.projections.projection import Projection, StreamKey
from outbox.errors import DependencyDown
from stack.servers.graph.arcadedb import ArcadeServer
from stack.servers.graph.graph import choose_provider
from stack.servers.graph.neo4j import Neo4jServer, has_means
from stack.servers.graph.own_server import OwnGraphServer
from stack.settings import StackSettings

PAUSE_SECONDS = 0.05


async def own_graph(folder: Path) -> OwnGraphServer:
    """Return a server, not started yet: Neo4j if STACK_GRAPH means it and jars are, or ArcadeDB."""
    settings = StackSettings(neo4j_url=None)
    real = await choose_provider(settings) != "arcadedb" and await has_means(settings)
    return (Neo4jServer if real else ArcadeServer)(folder, settings)


class Watch:
    """Looks at keys again and again; `fell` are those whose version was lower than before.

    `shown` is what it saw last. It sees nothing while the server is down.
    """

    def __init__(self, projection: Projection, streams: Iterable[StreamKey]) -> None:
        self._projection = projection
        self._streams = list(streams)
        self.shown: dict[StreamKey, int] = {}
        self.fell: list[StreamKey] = []
        self.looks = 0

    async def look(self) -> None:
        found = await self._projection.versions(self._streams)
        for stream in self._streams:
            version = found[stream].version if stream in found else 0
            if version < self.shown.get(stream, 0):
                self.fell.append(stream)
            self.shown[stream] = version
        self.looks += 1

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """For the length of the block."""
        task = asyncio.create_task(self._look_on())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _look_on(self) -> None:
        while True:
            with suppress(DependencyDown):
                await self.look()
            await asyncio.sleep(PAUSE_SECONDS)
