"""Renderer: turns a row of outbox.messages into the Kafka record that other programs read."""

from collections.abc import Sequence

import orjson

from outbox.cursor.cut import Row
from outbox.kafka import Record
from outbox.kafka.batch import VARINT, header
from schemas.extensions import TRACING, keep_readable
from schemas.limits import SEQUENCE_DIGITS
from schemas.wire.codec import JSON

Headers = Sequence[tuple[str, bytes]]
OWN_HEADERS = 11  # how many headers every record has
KNOWN_KINDS = 10_000  # how many kinds of messages are remembered at most


class Renderer:
    """Renders the rows of one term, with the same result as schemas.wire.encode for an envelope.

    This is the hot path: it has a template for each kind of message, and works on bytes. A test
    keeps it equal to `encode`. `more` are further headers of every record, after its own.
    """

    def __init__(self, term: int, more: Headers = ()) -> None:
        self._term = term
        self._more = more
        self._own = OWN_HEADERS + len(more)
        self._kinds: dict[tuple[bytes, bytes, bytes], tuple[str, bytes]] = {}

    def render(self, row: Row) -> Record:
        """Return the record of one row; its headers have everything that the payload does not."""
        position, topic, key, aggregatetype, id_, type_, version, payload, written, time = row
        kind = self._kinds.get((topic, aggregatetype, type_))
        name, template = kind or self._remember_kind(topic, aggregatetype, type_)
        pairs = _render_written(written) if written != b"{}" else []
        identity, place = VARINT[len(id_)] + id_, b"%d" % position
        headers = template % (
            VARINT[self._own + len(pairs)], identity, VARINT[len(key)], key, VARINT[len(time)],
            time, version, identity, VARINT[len(place)], place, b"".join(pairs),
        )  # fmt: skip
        return Record(position, name, key, payload, headers, aggregatetype)

    def _remember_kind(self, topic: bytes, aggregatetype: bytes, type_: bytes) -> tuple[str, bytes]:
        if len(self._kinds) >= KNOWN_KINDS:
            self._kinds.clear()
        kind = topic.decode(), _build_template(aggregatetype, type_, self._term, self._more)
        return self._kinds.setdefault((topic, aggregatetype, type_), kind)


def _build_template(aggregatetype: bytes, type_: bytes, term: int, more: Headers) -> bytes:
    """Return the encoded headers of one kind of message, with `%b` for what differs between rows.

    In each such place goes a value with its length before it. The source is `/` and the aggregate
    up to its first dot: `/catalog` for `catalog.item`.
    """
    pieces = (
        b"%b",  # how many headers there are
        _render_header("ce_specversion", b"1.0"),
        _render_name("ce_id") + b"%b",
        _render_header("ce_source", b"/" + aggregatetype.split(b".", 1)[0]),
        _render_header("ce_type", type_),
        _render_name("ce_subject") + b"%b%b",
        _render_name("ce_time") + b"%b%b",
        _render_name("ce_sequence") + VARINT[SEQUENCE_DIGITS] + b"%%0%dd" % SEQUENCE_DIGITS,
        _render_header("content-type", JSON),
        _render_name("id") + b"%b",
        _render_name("position") + b"%b%b",
        _render_header("term", b"%d" % term),
        *(_render_header(name, value) for name, value in more),
        b"%b",  # the headers that the message was written with
    )
    return b"".join(pieces)


def _render_header(name: str, value: bytes) -> bytes:
    """Return a whole header, escaped for a template."""
    return header(name, value).replace(b"%", b"%%")


def _render_name(name: str) -> bytes:
    """Return the part of a header up to and including its name."""
    return VARINT[len(name)] + name.encode()


def _render_written(document: bytes) -> list[bytes]:
    """Return the headers that a message was written with.

    Our own names stay as they are, and extensions become attributes (`ce_...`). Rows that were
    written by an older version may hold any JSON, so what is not valid is left out: it must not
    stop the relay.
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
