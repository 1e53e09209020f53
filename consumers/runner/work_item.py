"""Task: a record on its way through a runner, and what it decodes to."""

from dataclasses import dataclass

from consumers.dead_letters.redelivery import Retried
from outbox.errors import MessageRejected
from outbox.kafka import ConsumerRecord
from schemas import wire
from schemas.envelope import Envelope
from schemas.limits import KEY_CHARACTERS

RECORD_BYTES = 500  # what the objects around a record's bytes take, roughly

QueueKey = str | tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One message to be applied; `content` is the reason where it can never be.

    `stream` names the key in its topic; None where the record has none. `retried` is set where it
    does not come from Kafka but from a dead letter.
    """

    record: ConsumerRecord
    content: Envelope | MessageRejected
    stream: str | None
    retried: Retried | None = None

    @property
    def queue(self) -> QueueKey:
        """What it must be applied in order with; without a key that is nothing else."""
        record = self.record
        return self.stream or (record.topic, record.partition, record.offset)

    def is_for_another(self, consumer: str) -> bool:
        """Whether it is replayed for another consumer than this one."""
        return isinstance(self.content, Envelope) and not self.content.is_for(consumer)

    @property
    def bytes(self) -> int:
        """About what it holds in memory."""
        record = self.record
        headers = sum(len(name) + len(raw or b"") for name, raw in record.headers)
        return RECORD_BYTES + len(record.key or b"") + len(record.value or b"") + headers


def read_work_item(record: ConsumerRecord, retried: Retried | None = None) -> WorkItem:
    """A broken record is a task too: what its key said before comes first.

    The record's key is what is kept in order, as Kafka does: whoever keys commands by a tenant
    gets them in that tenant's order, whatever each is about. A record without a key has its
    subject for one.
    """
    content = _content(record)
    key = _readable(record.key) if record.key else getattr(content, "key", None)
    return WorkItem(record, content, f"{record.topic}/{key}" if key else None, retried)


def _content(record: ConsumerRecord) -> Envelope | MessageRejected:
    try:
        return wire.decode(record.key, record.value, record.headers)
    except MessageRejected as refusal:
        return refusal


def _readable(key: bytes) -> str:
    """A name for any key: PostgreSQL's text holds no NUL, and its index no long ones."""
    text = key[: 4 * KEY_CHARACTERS].decode(errors="replace").replace("\x00", "\\0")
    return text[:KEY_CHARACTERS]
