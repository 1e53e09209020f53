"""CloudEvents 1.0.2 over Kafka: binary mode out, binary and structured mode in.

Attributes travel as `ce_*` headers, extensions among them; beside them `id` (the header that
Debezium's outbox event router sets), `correlationid`, `causationid`, `traceparent`, `position`,
`term` and `replayfor`.

A reader is strict about what it uses and takes everything else as it comes (`schemas.attributes`).
A message is about its subject; the record's key, which decides the partition, may be anything.
Where a message names no subject, its record's key stands in, or its id where that is none or no
text: CloudEvents leaves the subject to the sender, and its payload says what it is about.
"""

import base64
import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

from schemas import rfc3339, strict_json
from schemas.attributes import USED, Attributes, read_number, read_text, read_trace
from schemas.envelope import Envelope
from schemas.errors import MessageRejected, build_rejection
from schemas.limits import (
    ID_CHARACTERS,
    KEY_CHARACTERS,
    SEQUENCE_DIGITS,
    TYPE_CHARACTERS,
)
from schemas.media_type import is_structured, require_json

Headers = list[tuple[str, bytes]]

JSON = b"application/json"
SPEC_VERSION = "1.0"

timestamp = rfc3339.write


def encode(envelope: Envelope) -> tuple[bytes, bytes | None, Headers]:
    """Key, value and headers of a Kafka record in binary mode."""
    attributes = {
        "ce_specversion": SPEC_VERSION,
        "ce_id": envelope.id,
        "ce_source": envelope.source,
        "ce_type": envelope.type,
        "ce_subject": envelope.key,
        "ce_time": timestamp(envelope.time) if envelope.time else None,
        "ce_sequence": format_sequence(envelope.sequence)
        if envelope.sequence is not None
        else None,
        "content-type": "application/json",
        "id": envelope.id,
        "correlationid": envelope.correlation_id,
        "causationid": envelope.causation_id,
        "traceparent": envelope.traceparent,
        "position": envelope.position,
        "term": envelope.term,
        "replayfor": envelope.replay_for,
    }
    headers = [
        (name, str(value).encode()) for name, value in attributes.items() if value is not None
    ]
    headers += [(f"ce_{name}", text.encode()) for name, text in envelope.extensions.items()]
    return envelope.key.encode(), envelope.payload, headers


def format_sequence(version: int) -> str:
    """A version as `ce_sequence` carries it: zero-padded, so that text order is number order."""
    return str(version).zfill(SEQUENCE_DIGITS)


def decode(
    key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]
) -> Envelope:
    """The envelope of a Kafka record, or MessageRejected (`envelope`, `json`, `too-large`)."""
    attributes = Attributes(headers)
    content_type = attributes.used("content-type")
    if is_structured(content_type):
        return _structured(key, value, attributes)
    if value is not None:
        require_json(content_type)
    return _envelope(key, value, attributes)


def _structured(key: bytes | None, value: bytes | None, outside: Attributes) -> Envelope:
    """An event that is all in the value; tracing and our own marks may stand beside it."""
    if value is None:
        raise build_rejection("envelope", "value", "structured mode needs a value")
    event = strict_json.load(value)
    if not isinstance(event, dict):
        raise build_rejection("envelope", "body", "must be a JSON object")
    _require_texts(event)
    inside = Attributes(
        (f"ce_{name}", _canonical(part).encode())
        for name, part in event.items()
        if isinstance(part, str | int) and name not in {"data", "data_base64"}
    )
    return _envelope(key, _data(event, inside), inside, outside)


def _require_texts(event: dict[str, Any]) -> None:
    """MessageRejected where an attribute that is used is neither a text nor null, which is none."""
    for name in (*USED, "datacontenttype"):
        if not isinstance(event.get(name), str | None):
            raise build_rejection("envelope", name, "must be text")


def _canonical(part: str | int) -> str:
    """The text of an attribute as CloudEvents writes it outside of JSON."""
    return str(part).lower() if isinstance(part, bool) else str(part)


def _data(event: dict[str, Any], attributes: Attributes) -> bytes | None:
    encoded, data = event.get("data_base64"), event.get("data")
    if encoded is None and data is None:
        return None
    require_json(attributes.used("content-type"), "datacontenttype")
    if encoded is not None:
        return _from_base64(encoded)
    # Not orjson: it refuses integers of more than 64 bits, which JSON and our parser take.
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def _from_base64(text: object) -> bytes:
    if isinstance(text, str):
        with suppress(ValueError):  # not its alphabet, not its length, or not ASCII
            return base64.b64decode(text, validate=True)
    raise build_rejection("envelope", "data_base64", "must be base64")


def _envelope(
    key: bytes | None, payload: bytes | None, event: Attributes, outside: Attributes | None = None
) -> Envelope:
    """`outside` are headers beside an event in structured mode; what the event says comes first."""

    def carried(name: str) -> str | None:
        text = event.carried(name)
        return outside.carried(name) if text is None and outside is not None else text

    if event.used("specversion") != SPEC_VERSION:
        raise build_rejection("envelope", "specversion", f"must be {SPEC_VERSION}")
    subject = _subject(event)
    message_id = _required(event, "id", ID_CHARACTERS)
    return Envelope(
        id=message_id,
        source=_required(event, "source"),
        type=_required(event, "type", TYPE_CHARACTERS),
        key=subject or _text_of_key(key) or message_id,
        payload=payload,
        time=_time(event),
        sequence=read_number(event.carried("sequence")),
        correlation_id=carried("correlationid"),
        causation_id=carried("causationid"),
        traceparent=read_trace(carried("traceparent")),
        position=read_number(carried("position")),
        term=read_number(carried("term")),
        replay_for=event.used("replayfor") or (outside and outside.used("replayfor")) or None,
        extensions=event.extensions,
        names_subject=bool(subject),
    )


def _required(attributes: Attributes, name: str, characters: int | None = None) -> str:
    """Not empty; its bytes are limited, and its characters where `characters` says so."""
    value = attributes.used(name)
    if not value or (characters is not None and len(value) > characters):
        size = f"1 to {characters}" if characters else "some"
        raise build_rejection("envelope", name, f"must have {size} characters")
    return value


def _subject(attributes: Attributes) -> str:
    """'' where it is absent."""
    text = attributes.used("subject")
    if len(text) > KEY_CHARACTERS:
        raise build_rejection("envelope", "subject", f"must have 1 to {KEY_CHARACTERS} characters")
    return text


def _text_of_key(key: bytes | None) -> str:
    """'' where the record has none, or one that is no name, as a number in binary."""
    try:
        text = read_text("key", key) if key else ""
    except MessageRejected:
        return ""
    return text if len(text) <= KEY_CHARACTERS else ""


def _time(attributes: Attributes) -> datetime | None:
    text = attributes.used("time")
    return rfc3339.read(text) if text else None
