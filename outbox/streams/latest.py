"""Latest: the last message of a key, from the outbox or from the copy that compaction made."""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import psycopg

from outbox.postgres.transactions import planned_transaction
from outbox.streams.heads import StreamKey
from schemas.envelope import Envelope
from schemas.extensions import keep_readable

# The view finds the message by the key's head, in the index of each daily partition. It needs READ
# COMMITTED: a daily partition that is dropped is gone for every snapshot, even for one that is
# older than the compacted copy and so does not show that copy.
READ = """
    SELECT latest.aggregateid, latest.id::text, latest.type, latest.version, latest.payload,
           latest.position, latest.created_at,
           latest.headers
    FROM unnest(%(keys)s::text[]) AS asked (key)
    JOIN outbox.latest AS latest
      ON latest.aggregatetype = %(aggregate)s AND latest.aggregateid = asked.key
"""


async def read_latest(
    connection: psycopg.AsyncConnection[Any], streams: Iterable[StreamKey]
) -> dict[StreamKey, Envelope | None]:
    """Return the envelope of each key's latest message, equal to the one that a relay sends.

    It is None where the head's message is nowhere. Keys without a head are left out. The connection
    must be in autocommit.
    """
    found: dict[StreamKey, Envelope | None] = {}
    for aggregate, group in groupby(sorted(streams), key=lambda stream: stream.aggregate):
        parameters = {"aggregate": aggregate, "keys": [stream.key for stream in group]}
        async with planned_transaction(connection):
            rows = await (await connection.execute(READ, parameters)).fetchall()
        found |= {StreamKey(aggregate, row[0]): _build_envelope(aggregate, row) for row in rows}
    return found


def _build_envelope(aggregate: str, row: tuple[Any, ...]) -> Envelope | None:
    key, id_, type_, version, payload, position, time, headers = row
    if id_ is None:
        return None
    written = headers if isinstance(headers, dict) else {}
    return Envelope(
        id=id_,
        source=f"/{aggregate.partition('.')[0]}",
        type=type_,
        key=key,
        payload=None if payload is None else payload.encode(),
        time=time,
        sequence=version,
        correlation_id=_text_or_none(written.get("correlationid")),
        causation_id=_text_or_none(written.get("causationid")),
        traceparent=_text_or_none(written.get("traceparent")),
        position=position,
        extensions=keep_readable(written),
    )


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None
