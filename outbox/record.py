"""Renderer: from a row of outbox.messages to the Kafka record that other programs read."""

import orjson

from outbox.cut import Row
from outbox.kafka import Record
from schemas.wire import JSON, SEQUENCE_DIGITS, Headers

SPECVERSION = ("ce_specversion", b"1.0")
CONTENT_TYPE = ("content-type", JSON)
CARRIED = ("correlationid", "causationid", "traceparent")
SEQUENCE = b"%%0%dd" % SEQUENCE_DIGITS


class Renderer:
    """Renders the rows of one term, as schemas.wire.encode renders an envelope.

    This is the hot path, so it works on bytes; a test holds it equal to `encode`.
    """

    def __init__(self, term: int) -> None:
        self._term = ("term", b"%d" % term)
        self._topics: dict[bytes, str] = {}
        self._sources: dict[bytes, tuple[str, bytes]] = {}

    def record(self, row: Row) -> Record:
        """The record of one row; its headers carry everything that the payload does not."""
        position, topic, key, aggregatetype, id_, type_, version, payload, carried, time = row
        headers: Headers = [
            SPECVERSION,
            ("ce_id", id_),
            self._source(aggregatetype),
            ("ce_type", type_),
            ("ce_subject", key),
            ("ce_time", time),
            ("ce_sequence", SEQUENCE % version),
            CONTENT_TYPE,
            ("id", id_),
            ("position", b"%d" % position),
            self._term,
        ]
        if carried != b"{}":
            headers += _carried(carried)
        return Record(position, self._topic(topic), key, payload, headers, aggregatetype)

    def _topic(self, topic: bytes) -> str:
        return self._topics.get(topic) or self._topics.setdefault(topic, topic.decode())

    def _source(self, aggregatetype: bytes) -> tuple[str, bytes]:
        """`catalog.item` comes from `/catalog`."""
        known = self._sources.get(aggregatetype)
        if known is None:
            known = ("ce_source", b"/" + aggregatetype.split(b".", 1)[0])
            self._sources[aggregatetype] = known
        return known


def _carried(document: bytes) -> Headers:
    """Those that are text; a writer in SQL may store any JSON, and none may stop the relay."""
    try:
        values = orjson.loads(document)
    except orjson.JSONDecodeError:  # deeper, or a greater number, than orjson reads
        return []
    if not isinstance(values, dict):
        return []
    return [(name, values[name].encode()) for name in CARRIED if isinstance(values.get(name), str)]
