"""The simplest projection: a dict in memory. It shows what a Projection promises.

Weakness: it is gone with its process.
"""

from collections.abc import AsyncIterator, Iterable, Sequence

from consumers.projections.divergence import refuse_divergent, split_divergent
from consumers.projections.projection import Change, Entry, StreamKey, keep_latest


class MemoryProjection:
    """A Projection that keeps the highest version of each key, deletes included.

    `state` has the last change of each key, for a test or a demo to look at.
    """

    name = "memory"

    def __init__(self, aggregates: Iterable[str], topics: Iterable[str]) -> None:
        self.aggregates = frozenset(aggregates)
        self.topics = tuple(topics)
        self.state: dict[StreamKey, Change] = {}

    async def prepare(self) -> None:
        """Do nothing: a dict needs no preparation."""

    async def apply(self, changes: Sequence[Change]) -> None:
        """Keep the highest version of each key; MessageRejected where two events claim one.

        It compares and sets without an await between, so no other task can write in between.
        """
        stored = {
            c.stream: self.state[c.stream].identity for c in changes if c.stream in self.state
        }
        flowing, divergences = split_divergent(changes, stored)
        for change in keep_latest(flowing):
            known = self.state.get(change.stream)
            if known is None or known.version < change.version:
                self.state[change.stream] = change
        refuse_divergent(self.name, divergences)

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        """What is kept of these keys, tombstones included; absent keys are left out."""
        return {stream: _entry(self.state[stream]) for stream in streams if stream in self.state}

    async def scan(self) -> AsyncIterator[Entry]:
        """All entries, from a copy: the caller may apply changes meanwhile."""
        for change in list(self.state.values()):
            yield _entry(change)

    async def delete_if_unchanged(self, entries: Sequence[Entry]) -> None:
        """Delete these entries where they are still the same."""
        for entry in entries:
            known = self.state.get(entry.stream)
            if known is not None and _entry(known) == entry:
                del self.state[entry.stream]


def _entry(change: Change) -> Entry:
    return Entry(change.stream, change.version, change.digest, change.deleted)
