"""Latest: the last message of a key, from the outbox or from what retention kept of it."""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import psycopg

from outbox.postgres.transactions import planned_transaction
from outbox.streams.heads import StreamKey
from schemas.envelope import Envelope
from schemas.extensions import keep_readable

# Found by the key's head, in the index of each day. At READ COMMITTED, as the view asks for: a day
# that is dropped is gone for every snapshot, also for one that is older than what was kept of it.
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
    """The envelope of each key's latest message, as a relay would send it.

    None where the head's message is nowhere; keys without a head are left out. The connection is
    in autocommit.
    """
    found: dict[StreamKey, Envelope | None] = {}
    for aggregate, group in groupby(sorted(streams), key=lambda stream: stream.aggregate):
        parameters = {"aggregate": aggregate, "keys": [stream.key for stream in group]}
        async with planned_transaction(connection):
            rows = await (await connection.execute(READ, parameters)).fetchall()
        found |= {StreamKey(aggregate, row[0]): _envelope(aggregate, row) for row in rows}
    return found


def _envelope(aggregate: str, row: tuple[Any, ...]) -> Envelope | None:
    key, id_, type_, version, payload, position, time, headers = row
    if id_ is None:
        return None
    carried = headers if isinstance(headers, dict) else {}
    return Envelope(
        id=id_,
        source=f"/{aggregate.partition('.')[0]}",
        type=type_,
        key=key,
        payload=None if payload is None else payload.encode(),
        time=time,
        sequence=version,
        correlation_id=_text(carried.get("correlationid")),
        causation_id=_text(carried.get("causationid")),
        traceparent=_text(carried.get("traceparent")),
        position=position,
        extensions=keep_readable(carried),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
