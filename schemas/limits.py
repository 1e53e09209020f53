"""Limits: what a message may hold; the numbers stand here once, for writers and readers.

The writers check them before a message commits: `outbox.write.publishing` in Python, and
`outbox.publish` in SQL. The readers check the same numbers: `schemas.strict_json`, `schemas.wire`,
and through them consumers, audit, replay and dead letters. So whatever commits can be read, and
fits into a record of a Kafka broker with default settings (1 MiB): payload and headers together
take at most 917,000 bytes. A test asks the migrated database about each number, at the limit and
just above it. Every limit is inclusive.
"""

import re

# The document itself.
PAYLOAD_BYTES = 900_000
DOCUMENT_BYTES = 1024 * 1024  # of a request body, or of an event in structured mode
DEPTH_LEVELS = 64
OBJECT_KEYS = 1_000
TEXT_BYTES = 256 * 1024  # of one text or one name in it, as UTF-8
INTEGER_DIGITS = 4_300  # Python converts no more by default

# What orders and names a message.
KEY_CHARACTERS = 255
TYPE_CHARACTERS = 255
AGGREGATE_CHARACTERS = 255
ID_CHARACTERS = 255
TOPIC_CHARACTERS = 249  # Kafka's own limit
MESSAGES_PER_KEY = 1_000  # in one transaction: one step of the sequence outbox.positions

# What travels beside it. 1,024 bytes hold a key of 255 characters of four bytes each.
ATTRIBUTE_BYTES = 1_024
HEADERS_BYTES = 8_192  # of all headers that a writer gives with a message, as JSON
EXTENSIONS = 64
EXTENSION_NAME_CHARACTERS = 20
SEQUENCE_DIGITS = 20

# No attribute and no key may hold these: they could not be shown, or would forge a log line.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def holds_control(text: str) -> bool:
    """Whether a text holds a control character; printable ASCII is decided without a search."""
    return not (text.isascii() and text.isprintable()) and CONTROL.search(text) is not None


def fits_attribute(text: str) -> bool:
    """Whether every reader accepts this text as the value of an attribute."""
    if text.isascii():
        return len(text) <= ATTRIBUTE_BYTES and not holds_control(text)
    try:
        return len(text.encode()) <= ATTRIBUTE_BYTES and not holds_control(text)
    except UnicodeEncodeError:  # a lone surrogate
        return False
