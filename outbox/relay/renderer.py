"""Renderer: from a row of outbox.messages to the Kafka record that other programs read."""

from collections.abc import Sequence

import orjson

from outbox.cursor.cut import Row
from outbox.kafka import Record
from outbox.kafka.batch import VARINT, header
from schemas.extensions import TRACING, keep_readable
from schemas.limits import SEQUENCE_DIGITS
from schemas.wire.codec import JSON

Headers = Sequence[tuple[str, bytes]]
OWN = 11  # headers that every record has
KNOWN_KINDS = 10_000  # kinds of messages that are remembered


class Renderer:
    """Renders the rows of one term, as schemas.wire.encode renders an envelope.

    This is the hot path: it fills in a template for each kind of message, and works on bytes. A
    test holds it equal to `encode`. `more` are headers of every record, behind its own.
    """

    def __init__(self, term: int, more: Headers = ()) -> None:
        self._term = term
        self._more = more
        self._own = OWN + len(more)
        self._kinds: dict[tuple[bytes, bytes, bytes], tuple[str, bytes]] = {}

    def record(self, row: Row) -> Record:
        """The record of one row; its headers carry everything that the payload does not."""
        position, topic, key, aggregatetype, id_, type_, version, payload, carried, time = row
        kind = self._kinds.get((topic, aggregatetype, type_))
        name, template = kind or self._remember(topic, aggregatetype, type_)
        pairs = _carried(carried) if carried != b"{}" else []
        identity, place = VARINT[len(id_)] + id_, b"%d" % position
        headers = template % (
            VARINT[self._own + len(pairs)], identity, VARINT[len(key)], key, VARINT[len(time)],
            time, version, identity, VARINT[len(place)], place, b"".join(pairs),
        )  # fmt: skip
        return Record(position, name, key, payload, headers, aggregatetype)

    def _remember(self, topic: bytes, aggregatetype: bytes, type_: bytes) -> tuple[str, bytes]:
        if len(self._kinds) >= KNOWN_KINDS:
            self._kinds.clear()
        kind = topic.decode(), _template(aggregatetype, type_, self._term, self._more)
        return self._kinds.setdefault((topic, aggregatetype, type_), kind)


def _template(aggregatetype: bytes, type_: bytes, term: int, more: Headers) -> bytes:
    """The encoded headers of one kind of message, with places for what differs between rows.

    A place is a value with its length before it. `catalog.item` comes from `/catalog`.
    """
    pieces = (
        b"%b",  # how many headers there are
        _fixed("ce_specversion", b"1.0"),
        _named("ce_id") + b"%b",
        _fixed("ce_source", b"/" + aggregatetype.split(b".", 1)[0]),
        _fixed("ce_type", type_),
        _named("ce_subject") + b"%b%b",
        _named("ce_time") + b"%b%b",
        _named("ce_sequence") + VARINT[SEQUENCE_DIGITS] + b"%%0%dd" % SEQUENCE_DIGITS,
        _fixed("content-type", JSON),
        _named("id") + b"%b",
        _named("position") + b"%b%b",
        _fixed("term", b"%d" % term),
        *(_fixed(name, value) for name, value in more),
        b"%b",  # what is carried
    )
    return b"".join(pieces)


def _fixed(name: str, value: bytes) -> bytes:
    """A whole header, safe in a template."""
    return header(name, value).replace(b"%", b"%%")


def _named(name: str) -> bytes:
    """A header up to its name."""
    return VARINT[len(name)] + name.encode()


def _carried(document: bytes) -> list[bytes]:
    """What a message was written with: our own names as they are, extensions as attributes.

    Rows that were written by an older version may hold any JSON; none of it may stop the relay.
    """
    try:
        values = orjson.loads(document)
    except orjson.JSONDecodeError:  # deeper, or a greater number, than orjson reads
        return []
    if not isinstance(values, dict):
        return []
    texts = [(name, values[name]) for name in TRACING if name in values]
    pairs = [header(name, text.encode()) for name, text in texts if isinstance(text, str)]
    if len(values) > len(texts):
        pairs += [
            header(f"ce_{name}", text.encode()) for name, text in keep_readable(values).items()
        ]
    return pairs
