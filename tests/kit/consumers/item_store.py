"""A store of catalog items that fails as a test wants, and the events of such items."""

from collections.abc import Sequence

from consumers.projections.projection import Change, StreamKey
from consumers.projections.testing.memory import MemoryProjection
from outbox.errors import DependencyDown
from outbox.kafka import Record
from schemas.catalog import ItemUpserted
from schemas.envelope import Envelope
from schemas.wire import encode

TOPIC = ItemUpserted.topic


def event(item_id: str, version: int, payload: bytes | None = None) -> Record:
    """The record of one version of an item of catalog `c`, with its own payload or another."""
    state = ItemUpserted(catalog_id="c", item_id=item_id, name=f"v{version}", text="t")
    envelope = Envelope(
        id=f"{item_id}-{version}",
        source="/catalog",
        type=ItemUpserted.type,
        key=state.key(),
        payload=state.payload() if payload is None else payload,
        sequence=version,
    )
    key, value, headers = encode(envelope)
    return Record(0, TOPIC, key, value, headers)


class Store(MemoryProjection):
    """The memory projection with the faults that a test plants.

    `outages` and `unexpected_errors` count the calls that will fail so; only a batch with item
    `odd` meets an unexpected error.
    """

    def __init__(self) -> None:
        super().__init__(frozenset({ItemUpserted.aggregate}), (TOPIC,))
        self.outages = 0
        self.unexpected_errors = 0
        self.calls = 0

    async def apply(self, changes: Sequence[Change]) -> None:
        self.calls += 1
        if self.outages:
            self.outages -= 1
            raise DependencyDown("memory", "planted")
        if self.unexpected_errors and any(change.stream.key == "c/odd" for change in changes):
            self.unexpected_errors -= 1
            raise ZeroDivisionError("planted")
        await super().apply(changes)

    async def version(self, item_id: str) -> int:
        """The version that it shows of an item; 0 for none."""
        stream = StreamKey(ItemUpserted.aggregate, f"c/{item_id}")
        entry = (await self.versions([stream])).get(stream)
        return entry.version if entry else 0
