"""Document: the payload of an event that is about to be written, checked as every reader checks it.

The whole check is `strict_json.load`, which takes longer than the rest of writing a small message.
So it runs only where a cheap look cannot exclude a breach. The cheap look counts: nothing is nested
65 levels deep without 65 brackets, 1,001 keys need as many colons, a long text or number needs a
longer payload, and NUL needs its escape. What pydantic wrote is valid JSON. An event class with a
`payload` method of its own may write anything, so its payload is always read whole.
"""

import re

from pydantic_core import PydanticSerializationError

from schemas import strict_json
from schemas.envelope import Event, Message
from schemas.errors import build_rejection
from schemas.limits import (
    DEPTH_LEVELS,
    INTEGER_DIGITS,
    OBJECT_KEYS,
    PAYLOAD_BYTES,
    TEXT_BYTES,
)

# A shorter payload has no room for too many digits or too many keys.
LONG_BYTES = min(INTEGER_DIGITS, 3 * OBJECT_KEYS)
_DIGITS = re.compile(b"[0-9]{%d}" % (INTEGER_DIGITS + 1))


def write_document(event: Event) -> bytes:
    """The payload of an event; MessageRejected where a reader would refuse it."""
    try:
        payload = event.payload()
    except (PydanticSerializationError, UnicodeError) as error:
        kind = type(error).__name__
        raise build_rejection("json", "payload", f"cannot be written as JSON ({kind})") from None
    if len(payload) > PAYLOAD_BYTES:
        raise build_rejection("too-large", "payload", f"at most {PAYLOAD_BYTES} bytes")
    if type(event).payload is not Message.payload or _may_be_refused(payload):
        strict_json.load(payload)
    return payload


def _may_be_refused(payload: bytes) -> bool:
    """Whether the whole check is needed: False is certain, True is not."""
    size = len(payload)
    return (
        b"\\u0000" in payload
        or b"NaN" in payload
        or b"Infinity" in payload
        or (size > 2 * DEPTH_LEVELS and _may_be_deep(payload))
        or (size > LONG_BYTES and _may_be_long(payload))
    )


def _may_be_deep(payload: bytes) -> bool:
    return payload.count(b"{") + payload.count(b"[") > DEPTH_LEVELS


def _may_be_long(payload: bytes) -> bool:
    return (
        len(payload) > TEXT_BYTES
        or payload.count(b":") > OBJECT_KEYS
        or _DIGITS.search(payload) is not None
    )
