"""Generations: whole copies of a projection side by side, of which one is live.

A generation is a collection, or a set of labels. Readers and writers ask the store itself which one
is live, and then use that one by its own name; so every answer comes from one generation, whole.

A writer asks after it has received a message. What it writes into a generation that was live just
before is therefore older than the topics' ends after the switch, and the rebuild that switches
brings it over (consumers/rebuild/rebuild.py).

Weakness: between two batches of a follower, the new generation shows a key as it was some
milliseconds ago; so at the moment of the switch, readers may see a version after its next one.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from consumers.projections.projection import Change, Entry, ForeignEntry, Projection, StreamKey


@dataclass(frozen=True, slots=True)
class Generation:
    """One copy of a projection.

    `model` made its vectors; it is None in a store without vectors, and where `foreign` is set.
    `foreign` says why something that has a generation's name was made by another program.
    """

    number: int
    live: bool
    model: str | None = None
    foreign: str | None = None


class Generations(Protocol):
    """The generations of one projection in its store. All methods raise DependencyDown.

    A number is never used again, so that what is known of a generation stays true.
    """

    name: str
    aggregates: frozenset[str]
    topics: tuple[str, ...]

    async def prepare(self) -> None:
        """Make the first generation where there is none; raise StoreUnfit where that fails."""

    async def list_generations(self) -> list[Generation]:
        """All generations that the store has, in the order of their numbers."""

    async def live(self) -> Projection:
        """The projection over the generation that is live now; StoreUnfit where none is."""

    async def apply(self, changes: Sequence[Change]) -> None:
        """Apply the changes to the generation that is live when they are written.

        Promises and raises what `Projection.apply` does.
        """

    async def create(self, number: int, model: str | None = None) -> Projection:
        """Make this generation, or take it as it is, and prepare it. It does not become live.

        Its vectors are made by `model`; None means the model of the live generation.
        """

    def require_model(self, model: str | None) -> None:
        """Raise Halted or StoreUnfit where `create` could not use this model."""

    async def switch(self, number: int) -> None:
        """Make this generation live, for everybody at one moment. A repetition changes nothing."""

    async def drop(self, number: int) -> None:
        """Remove this generation with all that it holds; Halted where it is the live one."""


class LiveProjection:
    """A Projection over whichever generation is live at each call.

    Weakness: a call fails if the generation that it found live is dropped before the call ends.
    """

    def __init__(self, generations: Generations) -> None:
        self.generations = generations
        self.name = generations.name
        self.aggregates = generations.aggregates
        self.topics = generations.topics

    async def prepare(self) -> None:
        """Make the first generation where there is none, and prepare the live one."""
        await self.generations.prepare()

    async def apply(self, changes: Sequence[Change]) -> None:
        """Apply the changes to the live generation."""
        await self.generations.apply(changes)

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        """What the live generation holds of these keys, tombstones included."""
        live = await self.generations.live()
        return await live.versions(streams)

    async def scan(self) -> AsyncIterator[Entry | ForeignEntry]:
        """All that the generation holds which is live when the scan begins."""
        live = await self.generations.live()
        async for entry in live.scan():
            yield entry

    async def delete_if_unchanged(self, entries: Sequence[Entry]) -> None:
        """Delete these entries from the live generation, where they are still the same."""
        live = await self.generations.live()
        await live.delete_if_unchanged(entries)
