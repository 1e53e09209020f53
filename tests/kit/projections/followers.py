"""Stores that follow the items of a catalog (see catalogued.py) as a consumer does, or badly."""

from collections.abc import AsyncIterator, Iterable, Sequence

from consumers.mappings.catalog import ITEM, ITEM_TOPIC
from consumers.projections.projection import Entry, Projection, StreamKey, read_change
from consumers.projections.testing.memory import MemoryProjection
from outbox.streams.latest import read_latest
from tests.kit.projections.catalogued import Connection


async def follow(
    postgres: Connection, projection: Projection, streams: Iterable[StreamKey]
) -> None:
    """Apply the latest messages of these keys, as a consumer does."""
    found = (await read_latest(postgres, streams)).values()
    await projection.apply([read_change(envelope) for envelope in found if envelope])


def memory() -> MemoryProjection:
    """A projection in memory, for tests that need no real store."""
    return MemoryProjection([ITEM], [ITEM_TOPIC])


class Scripted(MemoryProjection):
    """A projection in memory whose scan returns what a test says; `versions` stays true."""

    def __init__(self, scanned: Sequence[Entry]) -> None:
        super().__init__([ITEM], [ITEM_TOPIC])
        self.scanned = scanned

    async def scan(self) -> AsyncIterator[Entry]:
        for entry in self.scanned:
            yield entry
