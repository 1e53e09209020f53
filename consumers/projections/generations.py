"""Generations: whole copies of a projection side by side, of which one is live.

A generation is a collection, or a set of labels. Readers and writers ask the store itself which one
is live, and then use that one by its own name; so every answer is of one generation, whole.

A writer asks after it has received a message. What it writes into a generation that was live just
before is therefore older than the topics' ends after the switch, and whoever switches brings it
over (consumers/rebuild/rebuild.py).

Weakness: between two batches of a follower, the new generation shows a key as it was some
milliseconds ago; so at the moment of the switch, a version may be shown after its next one was.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from consumers.projections.projection import Change, Entry, ForeignEntry, Projection, StreamKey


@dataclass(frozen=True, slots=True)
class Generation:
    """`model` made its vectors; None in a store without any, and where it is `foreign`.

    `foreign` says why what has a generation's name was made by another program.
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
        """Make the first generation where there is none; SchemaBehind where it cannot be had."""

    async def existing(self) -> list[Generation]:
        """In the order of their numbers."""

    async def live(self) -> Projection:
        """The one that is live at this moment; SchemaBehind where none is."""

    async def apply(self, changes: Sequence[Change]) -> None:
        """As in Projection, to the one that is live when it is written."""

    async def create(self, number: int, model: str | None = None) -> Projection:
        """Make it, not live, or take it as it is; prepared. Of the live one's model unless told."""

    def require_model(self, model: str | None) -> None:
        """Halted or SchemaBehind where `create` could make no vectors of it."""

    async def switch(self, number: int) -> None:
        """Make it the live one, in one moment for everybody; again changes nothing."""

    async def drop(self, number: int) -> None:
        """Remove it with all that it holds; Halted where it is the live one."""


class LiveProjection:
    """A Projection over whichever generation is live at each call.

    Weakness: one that is dropped within the call that found it live makes that call fail.
    """

    def __init__(self, generations: Generations) -> None:
        self.generations = generations
        self.name = generations.name
        self.aggregates = generations.aggregates
        self.topics = generations.topics

    async def prepare(self) -> None:
        """As in Generations."""
        await self.generations.prepare()

    async def apply(self, changes: Sequence[Change]) -> None:
        """As in Projection."""
        await self.generations.apply(changes)

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        """As in Projection."""
        live = await self.generations.live()
        return await live.versions(streams)

    async def scan(self) -> AsyncIterator[Entry | ForeignEntry]:
        """As in Projection: all of the generation that is live at the beginning."""
        live = await self.generations.live()
        async for entry in live.scan():
            yield entry

    async def delete_if_unchanged(self, entries: Sequence[Entry]) -> None:
        """As in Projection."""
        live = await self.generations.live()
        await live.delete_if_unchanged(entries)
