"""TopicScan: turns records, as they were read, into lines for COPY.

Any program may have sent them, so nothing in them is trusted: a header that does not have the right
form counts as absent.
"""

import re
from binascii import hexlify
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import lru_cache
from hashlib import sha256
from typing import Any

import orjson

from outbox.audit.scope import AuditScope
from outbox.cursor.cut import HIGHEST
from outbox.kafka import Partition
from outbox.kafka.reader import OffsetRange
from schemas.extensions import keep_readable
from schemas.wire.attributes import KNOWN

COPY = "COPY pg_temp.records FROM STDIN"

LINE = b"%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t\\\\x%s\t%s\t%s\n"
NOTHING = b"\\N"
WHOLE = OffsetRange(0, 1 << 63)
OURS = frozenset({*KNOWN, "id", "replay"})  # headers that are no extensions
LAST_POSITION = b"%020d" % HIGHEST
ID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch


class TopicScan:
    """Makes lines of records. `read` counts all records; `outside`, those that were left out.

    A record is left out where its header has a position outside the range, and where it has no
    position and its neighbours belong to another range.
    """

    def __init__(self, scope: AuditScope) -> None:
        self._scope = scope
        self._lowest = 0 if scope.open else scope.lowest
        self._reached: dict[Partition, int] = {}
        self.read = 0
        self.outside = 0

    def lines(self, at: Partition, records: Sequence[Any]) -> bytes:
        """Return the lines for these records of one partition, which come in order of offset."""
        topic, partition = self._scope.topics[at[0]], at[1]
        lowest, highest = self._lowest, self._scope.highest
        neighbours = self._scope.places.get(at, WHOLE).end
        reached, lines = self._reached.get(at, -1), []
        for record in records:  # for millions: calls are written out here
            headers = dict(record.headers)
            position, behind = _read_number(headers.get("position")), b"f"
            if position is NOTHING:
                if record.offset >= neighbours:
                    continue
            elif not lowest <= (stands := int(position)) <= highest:
                continue
            elif stands > reached:
                reached = stands
            else:
                behind = b"t"
            id_, key = headers.get("ce_id") or b"", record.key
            line = (
                topic, partition, record.offset, position,
                id_ if ID(id_) else NOTHING,
                NOTHING if key is None else b"\\\\x" + hexlify(key),
                _read_number(headers.get("ce_sequence")), _read_number(headers.get("term")),
                _read_day((headers.get("ce_time") or b"")[:10]),
                _digest(headers.get("ce_type") or b"", record.value),
                NOTHING if headers.keys() <= OURS else _digest_extensions(headers),
                behind,
            )  # fmt: skip
            lines.append(LINE % line)
        self._reached[at] = reached
        self.read += len(records)
        self.outside += len(records) - len(lines)
        return b"".join(lines)


def _read_number(raw: bytes | None) -> bytes:
    """Return the number unchanged where it is a bigint that is not negative, else NULL."""
    if raw is None or not raw.isdigit():
        return NOTHING
    digits = len(raw)
    if (
        digits < 19
        or (digits == 20 and raw <= LAST_POSITION)
        or (digits == 19 and b"0" + raw <= LAST_POSITION)
    ):
        return raw
    return NOTHING


@lru_cache(maxsize=1_000)
def _read_day(raw: bytes) -> bytes:
    try:
        return date.fromisoformat(raw.decode("ascii")).isoformat().encode()
    except ValueError:
        return NOTHING


def _digest_extensions(headers: Mapping[str, bytes | None]) -> bytes:
    """Return the digest of the extensions that are compared, or NULL where there are none.

    Debezium sends all headers that a message was written with in one header, `headers`.
    """
    given: dict[str, object] = {}
    if headers.get("headers"):
        with suppress(orjson.JSONDecodeError):
            written = orjson.loads(headers["headers"] or b"")
            given = written if isinstance(written, dict) else {}
    for name, raw in headers.items():
        if name.startswith("ce_") and name not in OURS:
            given[name[3:]] = (raw or b"").decode(errors="replace")
    texts = [f"{name}={text}" for name, text in keep_readable(given).items()]
    return b"\\\\x" + hexlify(sha256("\n".join(texts).encode()).digest()[:16]) if texts else NOTHING


def _digest(type_: bytes, value: bytes | None) -> bytes:
    content = type_ if value is None else b"%b\n%b" % (type_, value)
    return hexlify(sha256(content).digest()[:16])
