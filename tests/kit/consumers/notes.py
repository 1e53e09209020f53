"""Notes: a reaction in memory for the topic of the fault tests, and questions about its state."""

from collections.abc import Sequence

from consumers.settings import Settings
from outbox.kafka import Publisher, Record, count_unread
from schemas.envelope import Envelope
from schemas.wire import encode
from tests.kit.consumers.assignments import Script
from tests.kit.verdicts.history import TOPIC


class Notes(Script):
    """Remembers what it was given, in this process."""

    name = "notes"
    topics = (TOPIC,)

    async def has(self, *ids: str) -> bool:
        return set(ids) <= set(self.applied)

    async def called(self) -> bool:
        return bool(self.calls)


async def send(settings: Settings, *events: Envelope) -> None:
    """Send each event in a batch of its own; one fetch may bring several batches."""
    async with Publisher(settings.kafka_url, 30.0) as publisher:
        for envelope in events:
            await publisher.send([Record(0, TOPIC, *encode(envelope))])


async def behind(settings: Settings) -> int:
    """How many records the group of Notes has not committed."""
    return await count_unread(settings.kafka_url, f"aftercommit.{Notes.name}", [TOPIC])


async def committed(settings: Settings) -> bool:
    return await behind(settings) == 0


def ids(events: Sequence[Envelope]) -> list[str]:
    return [envelope.id for envelope in events]
