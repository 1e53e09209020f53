"""Records to publish, and what Kafka answered: a delivery, or a refusal."""

from dataclasses import dataclass
from typing import NamedTuple

from schemas.wire import Headers


class Record(NamedTuple):
    """One record to publish. Its acknowledgement is reported by its `position`.

    `headers` are pairs of name and value, or the bytes that `encode_headers` makes of them. A
    `value` of None is a tombstone.
    """

    position: int
    topic: str
    key: bytes
    value: bytes | None
    headers: Headers | bytes
    aggregatetype: bytes = b""


class Stream(NamedTuple):
    """A key of one aggregate type; when one of its messages is refused, the later ones wait."""

    aggregatetype: bytes
    key: bytes


def read_stream(record: Record) -> Stream:
    return Stream(record.aggregatetype, record.key)


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A record that Kafka will not take, however often it is sent, and the reason."""

    record: Record
    reason: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """An acknowledged batch: the offsets at which Kafka stored which positions."""

    topic: str
    partition: int
    first_offset: int
    messages: int
    first_position: int
    last_position: int

    @property
    def last_offset(self) -> int:
        return self.first_offset + self.messages - 1
