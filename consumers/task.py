"""Task: a record on its way through a runner, and what it decodes to."""

from dataclasses import dataclass

from consumers.redo import Retried
from outbox.errors import MessageRejected
from outbox.kafka import Received
from schemas import wire
from schemas.envelope import Envelope

RECORD_BYTES = 500  # what the objects around a record's bytes take, roughly

LaneKey = str | tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Task:
    """One message to be applied; `content` is the reason where it can never be.

    `stream` names the key in its topic; None where the record has none. `retried` is set where it
    does not come from Kafka but from a dead letter.
    """

    record: Received
    content: Envelope | MessageRejected
    stream: str | None
    retried: Retried | None = None

    @property
    def lane(self) -> LaneKey:
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


def task_of(record: Received, retried: Retried | None = None) -> Task:
    """A broken record is a task too: what its key said before comes first."""
    try:
        envelope = wire.decode(record.key, record.value, record.headers)
    except MessageRejected as refusal:
        stream = f"{record.topic}/{_readable(record.key)}" if record.key else None
        return Task(record, refusal, stream, retried)
    return Task(record, envelope, f"{record.topic}/{envelope.key}", retried)


def _readable(key: bytes) -> str:
    """A name for any key: PostgreSQL's text holds no NUL, and its index no long ones."""
    text = key[: 4 * wire.MAX_KEY_CHARACTERS].decode(errors="replace").replace("\x00", "\\0")
    return text[: wire.MAX_KEY_CHARACTERS]
