"""Projection: a secondary store that follows the stream heads, fenced by version in the store.

A projection may be given any change at any time: repeated, late, or out of order. It ends at the
highest version of each key, and a deleted key stays deleted (a tombstone keeps its version).
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from outbox.runtime.pages import paginate
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
    """What a store keeps of an entry's event, to tell it from another event of that version."""

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
        """What a store keeps of this change, to compare it with another of its version."""
        return EventIdentity(self.version, self.event_id, self.digest)

    def build_entry(self) -> dict[str, Any]:
        """What a store keeps of this change, by the names of ENTRY_FIELDS."""
        return {
            "aggregate": self.stream.aggregate,
            "key": self.stream.key,
            "version": self.version,
            "event_id": self.event_id,
            "digest": self.digest,
            "deleted": self.deleted,
        }


class Projection(Protocol):
    """What every secondary store offers. All methods raise DependencyDown where it is away."""

    @property
    def name(self) -> str:
        """A word for logs, metrics and consumer groups: `qdrant`, `neo4j`."""

    @property
    def aggregates(self) -> frozenset[str]:
        """The aggregates whose heads this store follows."""

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that their events are on."""

    async def prepare(self) -> None:
        """Create what is missing (collection, constraints), and keep what is there.

        Raises StoreUnfit where the store cannot fence.
        """

    async def apply(self, changes: Sequence[Change]) -> None:
        """Bring each key to at least these versions; all of it is durable on return.

        Raises MessageRejected where the store can never take one of the changes. Some of the others
        may have been applied then, and applying all of them again is right. The reason is
        `diverged` where the store has another event at that version: that event stays, and the
        changes of other keys are applied.
        """

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        """What the store holds of these keys, tombstones included; absent keys are left out.

        Something in a key's place that is no valid entry of it counts as absent: `apply` replaces
        it, or raises a MessageRejected that says where it is.
        """

    def scan(self) -> AsyncIterator[Entry | ForeignEntry]:
        """Everything that the store holds, tombstones included, in no particular order.

        Foreign entries are included: no writer of ours can have put them there as they are, and
        the caller decides about them.
        """

    async def delete_if_unchanged(self, entries: Sequence[Entry]) -> None:
        """Delete these entries from the store where they are unchanged; durable on return.

        Only repair uses it, for entries that no event accounts for. The store itself compares the
        version, the digest and whether the key is deleted, so whatever was applied since stays.
        Afterwards the key is as if it had never been there: the store takes any version of it.
        """


def read_change(envelope: Envelope) -> Change:
    """The change that an event carries; raises MessageRejected where it carries none."""
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
    """The change with the highest version of each key, in key order.

    A store need not see the versions between. A statement over a batch reads before it writes, so
    a key must not occur twice in one batch.
    """
    highest: dict[StreamKey, Change] = {}
    for change in changes:
        known = highest.get(change.stream)
        if known is None or change.version > known.version:
            highest[change.stream] = change
    return [highest[stream] for stream in sorted(highest)]


def batch_by_key(changes: Iterable[Change], keys: int) -> Iterator[list[Change]]:
    """Split the changes into batches of at most `keys` keys, each with all changes of its keys.

    Keys are in order; the changes of one key stay in the order in which they came.
    """
    by_key: dict[StreamKey, list[Change]] = {}
    for change in changes:
        by_key.setdefault(change.stream, []).append(change)
    for page in paginate(sorted(by_key), keys):
        yield [change for stream in page for change in by_key[stream]]


class ProjectionReaction:
    """Lets a runner apply events to a projection; an event that is rejected parks its key."""

    parks_keys = True

    def __init__(self, projection: Projection, batch_messages: int = 500) -> None:
        self.name = projection.name
        self.topics = projection.topics
        self.batch_messages = batch_messages
        self._projection = projection

    async def prepare(self) -> None:
        """Prepare the projection's store."""
        await self._projection.prepare()

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        """Apply the events, except those that are replayed for another consumer only."""
        mine = [read_change(each) for each in envelopes if each.is_for(self.name)]
        if mine:
            await self._projection.apply(mine)
