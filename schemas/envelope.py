"""Message, Command, Event, and the Envelope that carries one of them."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from schemas.extensions import NO_EXTENSIONS, Extensions


class Message(BaseModel):
    """A message from one process to another: immutable, strictly typed, versioned by its type.

    `type` ends in its major version (`catalog.item-upserted.v1`). Within a version changes are
    additive; a new major version is a new class with an upcaster.
    """

    # A float that is not finite is written as `NaN` or `Infinity`, and then refused. Pydantic's
    # default is `null`: that would commit, and a reader could not tell it from a missing value.
    model_config = ConfigDict(
        frozen=True, strict=True, hide_input_in_errors=True, ser_json_inf_nan="constants"
    )

    type: ClassVar[str]
    topic: ClassVar[str]

    def key(self) -> str:
        """The aggregate id: what orders this message among others, and its Kafka key."""
        raise NotImplementedError

    def payload(self) -> bytes:
        """The JSON document, UTF-8, in the order in which the fields are declared."""
        return self.model_dump_json().encode()


class Command(Message):
    """Asks for a change, and may be refused; its name is an imperative.

    Unknown fields are refused.
    """

    model_config = ConfigDict(extra="forbid")


class Event(Message):
    """States a committed fact; its name is in the past tense.

    Unknown fields are ignored, because a newer writer may have added them.
    `deletes` marks the event after which its aggregate is gone.
    """

    model_config = ConfigDict(extra="ignore")

    aggregate: ClassVar[str]
    deletes: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as it travels: CloudEvents 1.0 attributes beside the payload's bytes.

    `key` is the subject, which the message is about. `names_subject` is false where the sender
    named none: then only the payload says what the message is about, and `key` is the key of its
    record, or its id. `sequence` is the version of the key; commands have none. `payload` is None
    for a tombstone. `extensions` are attributes that the sender added. `position` and `term` name
    the outbox row and the relay's term, where a relay sent the message; term 0 belongs to no relay
    and marks a replay. `replay_for` is the one consumer that a replay is for, None for all.
    """

    id: str
    source: str
    type: str
    key: str
    payload: bytes | None
    time: datetime | None = None
    sequence: int | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    traceparent: str | None = None
    position: int | None = None
    term: int | None = None
    replay_for: str | None = None
    extensions: Extensions = NO_EXTENSIONS
    names_subject: bool = True

    def is_for(self, consumer: str) -> bool:
        """Whether this consumer is to apply the message."""
        return self.replay_for in (None, consumer)

    @property
    def digest(self) -> str:
        return digest(self.payload)


def digest(payload: bytes | None) -> str:
    """The digest by which payloads are compared: the first 16 bytes of the SHA-256, in hex.

    `outbox.digest(text)` in SQL returns the same.
    """
    return sha256(payload or b"").hexdigest()[:32]
