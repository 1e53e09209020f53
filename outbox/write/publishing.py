"""Publishing: turns collected events into rows of outbox.messages, in one statement.

The statement is sent after all other writes of the transaction, when it holds all its row locks.
It keeps the order of each key for these reasons:
- The head of each key is upserted, in key order. So two units that share keys cannot deadlock
  here, and the second one waits until the first has ended.
- Version and position are drawn in DO UPDATE, after the head is locked. The very first position of
  a key is drawn before its insert, but a second writer conflicts, waits, and draws again there.
- The messages of one key are numbered upwards to the version and position of the head.
So the versions of a key have no gap, and its positions rise in commit order.

The statement also sets synchronous_commit, because what the relay reads and sends must survive a
crash of PostgreSQL, whatever the role's default is. Doing so inside the statement saves a second
statement.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import uuid4

import orjson
import psycopg

from outbox.errors import build_rejection
from outbox.postgres.pipeline import COMMIT, Request, Rows, Statement, execute_at_once
from outbox.postgres.sql_file import read_statements
from schemas.document import write_document
from schemas.envelope import Envelope, Event, digest
from schemas.limits import (
    AGGREGATE_CHARACTERS,
    ATTRIBUTE_BYTES,
    KEY_CHARACTERS,
    MESSAGES_PER_KEY,
    TOPIC_CHARACTERS,
    TYPE_CHARACTERS,
    fits_attribute,
)

_is_topic = re.compile(f"[a-zA-Z0-9._-]{{1,{TOPIC_CHARACTERS}}}").fullmatch

SQL = read_statements(__file__)
PUBLISH_ONE = Statement.of(SQL["publish_one"])
PUBLISH_SEVERAL = Statement.of(SQL["publish_several"])


@dataclass(frozen=True, slots=True)
class Published:
    """The key, version and position that a committed message got in the outbox."""

    aggregatetype: str
    key: str
    version: int
    position: int


def build_publish_request(events: Sequence[Event], cause: Envelope | None) -> Request:
    """Return the request that inserts `events` in the open transaction.

    It raises MessageRejected where a message could never be sent. `cause` is the message that led
    to these events, or None.
    """
    _check_messages_per_key(events)
    for event in events:
        _check_names(event.type, event.topic, event.aggregate)
        check_key(event.key())
    payloads = [write_document(event) for event in events]
    headers = {"headers": orjson.dumps(_build_headers(cause)).decode()}
    if len(events) == 1:
        return Request(PUBLISH_ONE, _build_one(events[0], payloads[0]) | headers)
    return Request(PUBLISH_SEVERAL, _build_several(events, payloads) | headers)


def read_published(events: Sequence[Event], rows: Rows) -> list[Published]:
    """Return each event's place, in the order of `events`.

    `rows` is what the statement of `build_publish_request` returned.
    """
    ends = {(aggregate, key): (version, position) for aggregate, key, version, position in rows}
    streams = list(map(_stream_of, events))
    steps, lasts = _number_per_key(streams)
    return [
        Published(*stream, *(end - last + step for end in ends[stream]))
        for stream, step, last in zip(streams, steps, lasts, strict=True)
    ]


async def commit_messages(
    driver: psycopg.AsyncConnection[Any], events: Sequence[Event], cause: Envelope | None = None
) -> list[Published]:
    """Insert `events` and commit, for programs that use psycopg without UnitOfWork.

    It returns each event's place, in the order of `events`.
    """
    rows, _ = await execute_at_once(driver, [build_publish_request(events, cause), COMMIT])
    return read_published(events, rows)


def check_key(key: str) -> None:
    """Raise MessageRejected where no record could have this key."""
    _check_text("key", key, KEY_CHARACTERS)


@lru_cache(maxsize=4_096)
def _check_names(type_: str, topic: str, aggregate: str) -> None:
    """Check the names of a class of events; the cache makes it one check for each class."""
    _check_text("type", type_, TYPE_CHARACTERS)
    _check_text("aggregate", aggregate, AGGREGATE_CHARACTERS)
    if not _is_topic(topic) or topic in (".", ".."):
        rule = f"1 to {TOPIC_CHARACTERS} of a-z, A-Z, 0-9, '.', '_' and '-', and not '.' or '..'"
        raise build_rejection("envelope", "topic", rule)


def _check_text(name: str, text: str, characters: int) -> None:
    plain = text.isascii() and text.isprintable()  # nearly all are, and need no search
    if not 1 <= len(text) <= characters or not (plain or fits_attribute(text)):
        rule = f"1 to {characters} characters, none of them a control character"
        raise build_rejection("envelope", name, rule)


def _build_one(event: Event, payload: bytes) -> dict[str, Any]:
    return {
        "id": uuid4(),
        "aggregatetype": event.aggregate,
        "key": event.key(),
        "type": event.type,
        "topic": event.topic,
        "payload": payload.decode(),
        "digest": digest(payload),
        "deletes": event.deletes,
    }


def _build_several(events: Sequence[Event], payloads: Sequence[bytes]) -> dict[str, Any]:
    streams = list(map(_stream_of, events))
    steps, lasts = _number_per_key(streams)
    return {
        "ids": [uuid4() for _ in events],
        "aggregatetypes": [aggregate for aggregate, _ in streams],
        "keys": [key for _, key in streams],
        "types": [event.type for event in events],
        "topics": [event.topic for event in events],
        "payloads": [payload.decode() for payload in payloads],
        "digests": [digest(payload) for payload in payloads],
        "deletes": [event.deletes for event in events],
        "steps": steps,
        "lasts": lasts,
    }


def _stream_of(event: Event) -> tuple[str, str]:
    return event.aggregate, event.key()


def _number_per_key(streams: Sequence[tuple[str, str]]) -> tuple[list[int], list[int]]:
    """Number the messages of each key from 1.

    The first list has the number of each message; the second has how many messages its key has.
    """
    reached: Counter[tuple[str, str]] = Counter()
    steps = []
    for stream in streams:
        reached[stream] += 1
        steps.append(reached[stream])
    return steps, [reached[stream] for stream in streams]


def _build_headers(cause: Envelope | None) -> dict[str, str]:
    """Return the headers that name the cause. Extensions of the cause are not passed on."""
    if cause is None:
        return {}
    headers = {"correlationid": cause.correlation_id or cause.id, "causationid": cause.id}
    headers |= {"traceparent": cause.traceparent} if cause.traceparent else {}
    for name, text in headers.items():
        if not fits_attribute(text):
            rule = f"at most {ATTRIBUTE_BYTES} bytes of text without control characters"
            raise build_rejection("envelope", name, rule)
    return headers


def _check_messages_per_key(events: Sequence[Event]) -> None:
    if len(events) > MESSAGES_PER_KEY < max(Counter(map(_stream_of, events)).values()):
        rule = f"at most {MESSAGES_PER_KEY} of one key in one unit of work"
        raise build_rejection("too-large", "messages", rule)
