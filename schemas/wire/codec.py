"""CloudEvents 1.0.2 over Kafka: we write binary mode, and read binary and structured mode.

Attributes and extensions travel as `ce_*` headers. Beside them there are `id` (the header that
Debezium's outbox event router sets), `correlationid`, `causationid`, `traceparent`, `position`,
`term` and `replayfor`.

A reader is strict about the attributes that it uses, and takes all others as they come; see
`schemas.wire.attributes`. A message is about its subject; the record's key, which decides the
partition, may be anything. Where a message names no subject, the record's key stands in for it, or
the message's id where the record has no key or one that is no text: CloudEvents leaves the subject
to the sender, and the payload says what the message is about.
"""

import base64
import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

from schemas import strict_json
from schemas.envelope import Envelope
from schemas.errors import MessageRejected, build_rejection
from schemas.limits import (
    ID_CHARACTERS,
    KEY_CHARACTERS,
    SEQUENCE_DIGITS,
    TYPE_CHARACTERS,
)
from schemas.wire import rfc3339
from schemas.wire.attributes import USED, Attributes, read_number, read_text, read_trace
from schemas.wire.media_type import is_structured, require_json

Headers = list[tuple[str, bytes]]

JSON = b"application/json"
SPEC_VERSION = "1.0"


def encode(envelope: Envelope) -> tuple[bytes, bytes | None, Headers]:
    """Key, value and headers of a Kafka record in binary mode."""
    attributes = {
        "ce_specversion": SPEC_VERSION,
        "ce_id": envelope.id,
        "ce_source": envelope.source,
        "ce_type": envelope.type,
        "ce_subject": envelope.key,
        "ce_time": rfc3339.format_time(envelope.time) if envelope.time else None,
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
    """A version in the form of `ce_sequence`: zero-padded, so that text order is number order."""
    return str(version).zfill(SEQUENCE_DIGITS)


def decode(
    key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]
) -> Envelope:
    """The envelope of a Kafka record.

    Raises MessageRejected with reason `envelope`, `json` or `too-large`.
    """
    attributes = Attributes(headers)
    content_type = attributes.read_strictly("content-type")
    if is_structured(content_type):
        return _read_structured(key, value, attributes)
    if value is not None:
        require_json(content_type)
    return _build_envelope(key, value, attributes)


def _read_structured(key: bytes | None, value: bytes | None, outside: Attributes) -> Envelope:
    """An event that is all in the value; tracing and our own headers may stand beside it."""
    if value is None:
        raise build_rejection("envelope", "value", "structured mode needs a value")
    event = strict_json.load(value)
    if not isinstance(event, dict):
        raise build_rejection("envelope", "body", "must be a JSON object")
    _require_texts(event)
    inside = Attributes(
        (f"ce_{name}", _format_attribute(part).encode())
        for name, part in event.items()
        if isinstance(part, str | int) and name not in {"data", "data_base64"}
    )
    return _build_envelope(key, _read_data(event, inside), inside, outside)


def _require_texts(event: dict[str, Any]) -> None:
    """Raise MessageRejected where an attribute that we use is neither a text nor null (absent)."""
    for name in (*USED, "datacontenttype"):
        if not isinstance(event.get(name), str | None):
            raise build_rejection("envelope", name, "must be text")


def _format_attribute(part: str | int) -> str:
    """The text of an attribute in the form that CloudEvents gives it outside of JSON."""
    return str(part).lower() if isinstance(part, bool) else str(part)


def _read_data(event: dict[str, Any], attributes: Attributes) -> bytes | None:
    encoded, data = event.get("data_base64"), event.get("data")
    if encoded is None and data is None:
        return None
    require_json(attributes.read_strictly("content-type"), "datacontenttype")
    if encoded is not None:
        return _decode_base64(encoded)
    # Not orjson: it refuses integers of more than 64 bits, which JSON and our parser take.
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def _decode_base64(text: object) -> bytes:
    if isinstance(text, str):
        with suppress(ValueError):  # not its alphabet, not its length, or not ASCII
            return base64.b64decode(text, validate=True)
    raise build_rejection("envelope", "data_base64", "must be base64")


def _build_envelope(
    key: bytes | None, payload: bytes | None, event: Attributes, outside: Attributes | None = None
) -> Envelope:
    """`outside` are headers beside an event in structured mode; the event's own attributes win."""

    def read(name: str) -> str | None:
        text = event.read_leniently(name)
        return outside.read_leniently(name) if text is None and outside is not None else text

    if event.read_strictly("specversion") != SPEC_VERSION:
        raise build_rejection("envelope", "specversion", f"must be {SPEC_VERSION}")
    subject = _read_subject(event)
    message_id = _require(event, "id", ID_CHARACTERS)
    return Envelope(
        id=message_id,
        source=_require(event, "source"),
        type=_require(event, "type", TYPE_CHARACTERS),
        key=subject or _read_key(key) or message_id,
        payload=payload,
        time=_read_time(event),
        sequence=read_number(event.read_leniently("sequence")),
        correlation_id=read("correlationid"),
        causation_id=read("causationid"),
        traceparent=read_trace(read("traceparent")),
        position=read_number(read("position")),
        term=read_number(read("term")),
        replay_for=_read_replay_for(event) or (outside and _read_replay_for(outside)) or None,
        extensions=event.extensions,
        names_subject=bool(subject),
    )


def _read_replay_for(attributes: Attributes) -> str:
    return attributes.read_strictly("replayfor")


def _require(attributes: Attributes, name: str, characters: int | None = None) -> str:
    """The attribute's text; MessageRejected where it is empty or has more than `characters`."""
    value = attributes.read_strictly(name)
    if not value or (characters is not None and len(value) > characters):
        size = f"1 to {characters}" if characters else "some"
        raise build_rejection("envelope", name, f"must have {size} characters")
    return value


def _read_subject(attributes: Attributes) -> str:
    """The subject, '' where it is absent."""
    text = attributes.read_strictly("subject")
    if len(text) > KEY_CHARACTERS:
        raise build_rejection("envelope", "subject", f"must have 1 to {KEY_CHARACTERS} characters")
    return text


def _read_key(key: bytes | None) -> str:
    """The record's key, '' where it has none or one that is no name, such as a binary number."""
    try:
        text = read_text("key", key) if key else ""
    except MessageRejected:
        return ""
    return text if len(text) <= KEY_CHARACTERS else ""


def _read_time(attributes: Attributes) -> datetime | None:
    text = attributes.read_strictly("time")
    return rfc3339.parse_time(text) if text else None
