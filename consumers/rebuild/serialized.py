"""InTurn: a projection whose writers wait for each other.

Two writers of one process that merge the same neighbour in a graph only disturb each other; a
follower and what brings keys over write to the same generation all the time.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

from consumers.projections.projection import Change, Entry, ForeignEntry, Projection, StreamKey


class SerializedProjection:
    """A Projection: `of`, with one write at a time."""

    def __init__(self, of: Projection) -> None:
        self.name = of.name
        self.aggregates = of.aggregates
        self.topics = of.topics
        self._of = of
        self._turn = asyncio.Lock()

    async def prepare(self) -> None:
        """As in Projection."""
        await self._of.prepare()

    async def apply(self, changes: Sequence[Change]) -> None:
        """As in Projection."""
        async with self._turn:
            await self._of.apply(changes)

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        """As in Projection."""
        return await self._of.versions(streams)

    def scan(self) -> AsyncIterator[Entry | ForeignEntry]:
        """As in Projection."""
        return self._of.scan()

    async def delete_if_unchanged(self, entries: Sequence[Entry]) -> None:
        """As in Projection."""
        async with self._turn:
            await self._of.delete_if_unchanged(entries)
