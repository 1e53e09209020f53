"""A projection whose writers take turns.

During a rebuild, the follower and the repair that brings keys over write to the same generation all
the time. Two writers of one process that merge the same neighbour in a graph would only disturb
each other.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

from consumers.projections.projection import Change, Entry, ForeignEntry, Projection, StreamKey


class SerializedProjection:
    """A Projection that passes each call on to another one, with one write at a time."""

    def __init__(self, projection: Projection) -> None:
        self.name = projection.name
        self.aggregates = projection.aggregates
        self.topics = projection.topics
        self._projection = projection
        self._turn = asyncio.Lock()

    async def prepare(self) -> None:
        """Prepare the store."""
        await self._projection.prepare()

    async def apply(self, changes: Sequence[Change]) -> None:
        """Apply the changes once no other write of this object goes on."""
        async with self._turn:
            await self._projection.apply(changes)

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        """What the store holds of these keys; it waits for no write."""
        return await self._projection.versions(streams)

    def scan(self) -> AsyncIterator[Entry | ForeignEntry]:
        """Everything that the store holds; it waits for no write."""
        return self._projection.scan()

    async def delete_if_unchanged(self, entries: Sequence[Entry]) -> None:
        """Delete unchanged entries once no other write of this object goes on."""
        async with self._turn:
            await self._projection.delete_if_unchanged(entries)
