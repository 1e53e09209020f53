"""WorkItem: one record on its way through a runner, with what it decodes to."""

from dataclasses import dataclass

from consumers.dead_letters.redelivery import Retried
from outbox.errors import MessageRejected
from outbox.kafka import ConsumerRecord
from schemas import wire
from schemas.envelope import Envelope
from schemas.limits import KEY_CHARACTERS

RECORD_BYTES = 500  # roughly what the Python objects around a record's bytes take

QueueKey = str | tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One message to be applied; `content` is the rejection if it can never be applied.

    `stream` names the key within its topic; it is None if the record has no key. `retried` is set
    if the message comes from a dead letter and not from Kafka.
    """

    record: ConsumerRecord
    content: Envelope | MessageRejected
    stream: str | None
    retried: Retried | None = None

    @property
    def queue(self) -> QueueKey:
        """The queue in which it is applied in order; a record without a key has one of its own."""
        record = self.record
        return self.stream or (record.topic, record.partition, record.offset)

    def is_for_another(self, consumer: str) -> bool:
        """Whether it was replayed for another consumer than this one."""
        return isinstance(self.content, Envelope) and not self.content.is_for(consumer)

    @property
    def bytes(self) -> int:
        """About how many bytes of memory it holds."""
        record = self.record
        headers = sum(len(name) + len(raw or b"") for name, raw in record.headers)
        return RECORD_BYTES + len(record.key or b"") + len(record.value or b"") + headers


def read_work_item(record: ConsumerRecord, retried: Retried | None = None) -> WorkItem:
    """Decode a record; never raises for a broken one.

    A broken record is a work item too, because the earlier messages of its key come first.

    Order is kept by the record's key, as Kafka does it: commands that are keyed by a tenant are
    applied in that tenant's order, whatever each is about. If the record has no key, its subject
    is the key.
    """
    content = _decode(record)
    key = _make_storable(record.key) if record.key else getattr(content, "key", None)
    return WorkItem(record, content, f"{record.topic}/{key}" if key else None, retried)


def _decode(record: ConsumerRecord) -> Envelope | MessageRejected:
    try:
        return wire.decode(record.key, record.value, record.headers)
    except MessageRejected as refusal:
        return refusal


def _make_storable(key: bytes) -> str:
    """Name any key so that PostgreSQL can hold it: text takes no NUL, its index no long values."""
    text = key[: 4 * KEY_CHARACTERS].decode(errors="replace").replace("\x00", "\\0")
    return text[:KEY_CHARACTERS]
