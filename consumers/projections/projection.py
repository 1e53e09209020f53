"""Projection: a secondary store that follows the stream heads, fenced by version in the store.

A projection may be given any change at any time, again, late, or out of order: it ends at the
highest version of each key, and a deleted key stays deleted (a tombstone keeps its version).
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

from outbox.streams.heads import Entry, StreamKey
from outbox.streams.stored_entries import ForeignEntry
from schemas.envelope import Envelope, Event
from schemas.errors import build_rejection
from schemas.registry import REGISTRY

__all__ = [
    "Change",
    "Entry",
    "EventIdentity",
    "ForeignEntry",
    "Projection",
    "ProjectionReaction",
    "StreamKey",
    "batch_by_key",
    "keep_latest",
    "read_change",
]


class EventIdentity(NamedTuple):
    """What a store keeps of the event that it shows, to know it from another of that version."""

    version: int
    event_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class Change:
    """One version of one key, checked and ready to apply. `event` is its whole state."""

    stream: StreamKey
    version: int
    event_id: str
    digest: str
    deleted: bool
    event: Event

    @property
    def identity(self) -> EventIdentity:
        return EventIdentity(self.version, self.event_id, self.digest)


class Projection(Protocol):
    """What every secondary store offers. All methods raise DependencyDown when it is away."""

    @property
    def name(self) -> str:
        """A word for logs, metrics and consumer groups: `qdrant`, `neo4j`."""

    @property
    def aggregates(self) -> frozenset[str]:
        """The aggregates whose heads this store follows."""

    @property
    def topics(self) -> tuple[str, ...]:
        """Where their events are."""

    async def prepare(self) -> None:
        """Create what is missing (collection, constraints), or refuse a store that cannot fence."""

    async def apply(self, changes: Sequence[Change]) -> None:
        """Make the store show at least these versions; all are durable on return.

        MessageRejected where the store can never take one of them: some of the others may have been
        applied then, and applying all again is right. With the reason `diverged` where it shows
        another event at that version, which stays; the changes of other keys are applied.
        """

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        """What the store shows of these keys, tombstones included; absent ones are left out.

        What is in a key's place and is no valid entry of it counts as absent: `apply` replaces it,
        or raises MessageRejected that says where it is.
        """

    def scan(self) -> AsyncIterator[Entry | ForeignEntry]:
        """Everything that the store holds, tombstones included, in no particular order.

        Also what no writer of ours can have put there as it is; whoever reads decides about it.
        """

    async def delete_if_unchanged(self, entries: Sequence[Entry]) -> None:
        """Remove what the store shows, where it is still exactly that; durable on return.

        For repair alone, of what no event accounts for. Fenced in the store by version, digest and
        whether it is deleted: whatever was applied since stays. The key is then as if it had never
        been there, so that any version of it is taken.
        """


def read_change(envelope: Envelope) -> Change:
    """The change that an event carries, or MessageRejected."""
    event = REGISTRY.parse(envelope)
    if not isinstance(event, Event):
        raise build_rejection("unknown-type", "type", "must be the type of an event")
    if envelope.sequence is None or envelope.sequence < 1:
        raise build_rejection("envelope", "sequence", "must be a version from 1 on")
    if envelope.names_subject and event.key() != envelope.key:
        raise build_rejection("envelope", "subject", "must be the key of the event")
    return Change(
        stream=StreamKey(event.aggregate, event.key()),
        version=envelope.sequence,
        event_id=envelope.id,
        digest=envelope.digest,
        deleted=event.deletes,
        event=event,
    )


def keep_latest(changes: Iterable[Change]) -> list[Change]:
    """The highest version of each key, in key order.

    A store need not see the versions between; and a statement over a batch reads before it
    writes, so a key must not occur twice in one.
    """
    highest: dict[StreamKey, Change] = {}
    for change in changes:
        known = highest.get(change.stream)
        if known is None or change.version > known.version:
            highest[change.stream] = change
    return [highest[stream] for stream in sorted(highest)]


def batch_by_key(changes: Iterable[Change], keys: int) -> Iterator[list[Change]]:
    """All changes of so many keys at a time; keys in order, a key's changes as they came."""
    by_key: dict[StreamKey, list[Change]] = {}
    for change in changes:
        by_key.setdefault(change.stream, []).append(change)
    streams = iter(sorted(by_key))
    while page := list(islice(streams, keys)):
        yield [change for stream in page for change in by_key[stream]]


class ProjectionReaction:
    """Lets a projection follow its topics; a broken event parks its key, in order."""

    parks_keys = True

    def __init__(self, projection: Projection, batch_messages: int = 500) -> None:
        self.name = projection.name
        self.topics = projection.topics
        self.batch_messages = batch_messages
        self._projection = projection

    async def prepare(self) -> None:
        await self._projection.prepare()

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        """All but what is replayed for another consumer: that one's store lacks it, not this."""
        mine = [read_change(each) for each in envelopes if each.is_for(self.name)]
        if mine:
            await self._projection.apply(mine)
