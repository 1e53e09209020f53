"""Changes of the catalog's items, in batches, and as records on their topic."""

from collections.abc import Iterable

from consumers.projections.projection import Change
from consumers.projections.testing.sample import catalog_items
from consumers.settings import Settings
from outbox.kafka import Record
from schemas.envelope import Envelope
from stack.demo.upstream import record_of
from tests.kit.load.roles import send_records

SAMPLE = catalog_items()
BATCH = [SAMPLE.upserted("a", 1), SAMPLE.upserted("b", 2), SAMPLE.removed("c", 3)]
MANY = [SAMPLE.upserted(f"i{n:03}", n % 5 + 1) for n in range(200)]


async def send_changes(settings: Settings, changes: Iterable[Change]) -> None:
    """Put the changes on their topic, past the outbox and the relay."""
    await send_records(settings, map(record_of_change, changes))


def record_of_change(change: Change) -> Record:
    """The record that the relay would send of this change."""
    envelope = Envelope(
        id=change.event_id,
        source="/catalog",
        type=change.event.type,
        key=change.stream.key,
        payload=change.event.payload(),
        sequence=change.version,
    )
    return record_of(envelope, change.event.topic)
