"""CloudEvents 1.0.2 over Kafka: binary mode out, binary and structured mode in.

Attributes travel as `ce_*` headers; beside them `id` (the header that Debezium's outbox event
router sets), `correlationid`, `causationid`, `traceparent`, `position`, `term` and `replayfor`.
"""

import base64
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from schemas import strict_json
from schemas.envelope import Envelope
from schemas.errors import rejected

Headers = list[tuple[str, bytes]]

STRUCTURED = b"application/cloudevents+json"
JSON = b"application/json"
SEQUENCE_DIGITS = 20
# What no attribute and no key may hold; the outbox refuses the same at the write.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
MAX_ATTRIBUTE_BYTES = 1024
MAX_KEY_CHARACTERS = 255

_EXTENSIONS = ("correlationid", "causationid", "traceparent", "position", "term", "replayfor")


def encode(envelope: Envelope) -> tuple[bytes, bytes | None, Headers]:
    """Key, value and headers of a Kafka record in binary mode."""
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": envelope.id,
        "ce_source": envelope.source,
        "ce_type": envelope.type,
        "ce_subject": envelope.key,
        "ce_time": timestamp(envelope.time) if envelope.time else None,
        "ce_sequence": sequence(envelope.sequence) if envelope.sequence is not None else None,
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
    return envelope.key.encode(), envelope.payload, headers


def timestamp(time: datetime) -> str:
    """RFC 3339 in UTC with microseconds, as `ce_time` carries it."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def sequence(version: int) -> str:
    """A version as `ce_sequence` carries it: zero-padded, so that text order is number order."""
    return str(version).zfill(SEQUENCE_DIGITS)


def decode(
    key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]
) -> Envelope:
    """The envelope of a Kafka record, or MessageRejected (`envelope`, `json`, `too-large`)."""
    attributes = _attributes(headers)
    if attributes.get("content-type", "").startswith(STRUCTURED.decode()):
        return _structured(key, value, attributes)
    return _envelope(key, value, {_plain(name): text for name, text in attributes.items()})


def _attributes(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    result: dict[str, str] = {}
    for name, raw in headers:
        if not _known(name):
            continue  # a stranger's header is neither ours to judge nor to pass on
        if name in result:
            raise rejected("envelope", strict_json.printable(name), "may appear only once")
        result[name] = _text(name, raw)
    return result


def _known(name: str) -> bool:
    return name.startswith("ce_") or name == "content-type" or name in _EXTENSIONS


def _plain(name: str) -> str:
    return name.removeprefix("ce_")


def _text(name: str, raw: bytes | None) -> str:
    name = strict_json.printable(name)
    if raw is None or len(raw) > MAX_ATTRIBUTE_BYTES:
        raise rejected(
            "envelope", name, f"must have a value of at most {MAX_ATTRIBUTE_BYTES} bytes"
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise rejected("envelope", name, "must be UTF-8") from None
    if CONTROL.search(text):
        raise rejected("envelope", name, "must not contain control characters")
    return text


def _structured(key: bytes | None, value: bytes | None, attributes: dict[str, str]) -> Envelope:
    if value is None:
        raise rejected("envelope", "value", "structured mode needs a value")
    event = strict_json.load(value)
    if not isinstance(event, dict):
        raise rejected("envelope", "body", "must be a JSON object")
    inside = {
        name: _text(name, str(part).encode())
        for name, part in event.items()
        if isinstance(part, str | int) and name not in {"data", "data_base64"}
    }
    outside = {name: attributes[name] for name in _EXTENSIONS if name in attributes}
    return _envelope(key, _data(event), outside | inside)


def _data(event: dict[str, Any]) -> bytes | None:
    if event.get("data_base64") is not None:
        return _from_base64(event["data_base64"])
    if event.get("data") is None:
        return None
    # Not orjson: it refuses integers of more than 64 bits, which JSON and our parser take.
    return json.dumps(event["data"], ensure_ascii=False, separators=(",", ":")).encode()


def _from_base64(text: object) -> bytes:
    if isinstance(text, str):
        with suppress(ValueError):  # not its alphabet, not its length, or not ASCII
            return base64.b64decode(text, validate=True)
    raise rejected("envelope", "data_base64", "must be base64")


def _envelope(key: bytes | None, payload: bytes | None, attributes: dict[str, str]) -> Envelope:
    if attributes.get("specversion") != "1.0":
        raise rejected("envelope", "specversion", "must be 1.0")
    return Envelope(
        id=_required(attributes, "id"),
        source=_required(attributes, "source"),
        type=_required(attributes, "type"),
        key=_key(key, attributes),
        payload=payload,
        time=_time(attributes.get("time")),
        sequence=_number(attributes, "sequence"),
        correlation_id=attributes.get("correlationid"),
        causation_id=attributes.get("causationid"),
        traceparent=attributes.get("traceparent"),
        position=_number(attributes, "position"),
        term=_number(attributes, "term"),
        replay_for=attributes.get("replayfor"),
    )


def _required(attributes: dict[str, str], name: str) -> str:
    value = attributes.get(name, "")
    if not value or len(value) > 255:
        raise rejected("envelope", name, "must have 1 to 255 characters")
    return value


def _key(key: bytes | None, attributes: dict[str, str]) -> str:
    """The record's key; a record without one is keyed by its subject."""
    subject = attributes.get("subject", "")
    text = _text("key", key) if key else subject
    if not 1 <= len(text) <= MAX_KEY_CHARACTERS:
        raise rejected("envelope", "subject", f"must have 1 to {MAX_KEY_CHARACTERS} characters")
    if subject and subject != text:
        raise rejected("envelope", "subject", "must equal the record's key")
    return text


def _number(attributes: dict[str, str], name: str) -> int | None:
    text = attributes.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= SEQUENCE_DIGITS):
        raise rejected("envelope", name, f"must be at most {SEQUENCE_DIGITS} digits")
    return int(text)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise rejected("envelope", "time", "must be RFC 3339") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
