"""AuditScope: what PostgreSQL says of a range at one moment, before the topics are read.

All of it is read in one snapshot and then stored: the positions of the range, the topics and
offsets at which its records may be, the messages that are parked or discarded, the recorded
deliveries, and, as snapshots, what the relay had passed and what was committed. So no transaction
stays open while the topics are read, and yet the messages can be judged afterwards by what was
true before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from outbox.cursor.cut import HIGHEST
from outbox.cursor.database_identity import read_identity
from outbox.cursor.relay_row import require_relay_row
from outbox.errors import Halted, InvalidInput
from outbox.kafka import Partition
from outbox.kafka.reader import OffsetRange

# Temporary tables are this session's own, so nothing here writes to the outbox. Their memory is
# bounded, and what is more goes to disk.
PREPARE = """
SET temp_buffers = '32MB'; SET work_mem = '48MB'; SET jit = off;
CREATE TEMPORARY TABLE topics (number integer, name text, partitions integer);
CREATE TEMPORARY TABLE aside (position bigint PRIMARY KEY, state text NOT NULL);
CREATE TEMPORARY TABLE deliveries (
    id bigint, term bigint, topic integer, partition integer, first_offset bigint,
    last_offset bigint, first_position bigint, last_position bigint, messages integer);
CREATE TEMPORARY TABLE partitions (topic integer, partition integer, log_start bigint,
                                   read_from bigint, neighbours_from bigint);
"""

RELAY = """
SELECT cursor::text, upto::text, position, pg_current_snapshot()::text AS committed,
       (SELECT min(position) FROM outbox.messages) AS oldest,
       greatest(highest_position, (SELECT max(position) FROM outbox.messages)) AS highest,
       (SELECT CASE WHEN min(id) > 1 THEN min(delivered_at) END FROM outbox.deliveries)
           AS deliveries_since
FROM outbox.relay WHERE name = 'main'
"""
# Positions rise with time, but not strictly; a range of time becomes the positions that it spans.
SINCE = "SELECT min(position) FROM outbox.messages WHERE created_at >= %(time)s"
UNTIL = "SELECT max(position) FROM outbox.messages WHERE created_at < %(time)s"
DATABASE_TIME = "SELECT now() - %(before)s::interval"

# Topics of messages of the range, or of its deliveries whose messages are dropped by now.
TOPICS = """
INSERT INTO pg_temp.topics
SELECT row_number() OVER (ORDER BY topic), topic, known.partitions
FROM (SELECT topic::text FROM outbox.messages WHERE position BETWEEN %(lowest)s AND %(highest)s
      UNION
      SELECT topic FROM outbox.deliveries
      WHERE last_position >= %(lowest)s AND first_position <= %(highest)s) AS named
LEFT JOIN outbox.topics AS known USING (topic)
WHERE %(topics)s::text[] IS NULL OR topic = ANY (%(topics)s)
RETURNING number, name
"""
DELIVERIES = """
INSERT INTO pg_temp.deliveries
SELECT delivery.id, term, topic.number, partition, first_offset, last_offset, first_position,
       last_position, messages
FROM outbox.deliveries AS delivery JOIN pg_temp.topics AS topic ON topic.name = delivery.topic
WHERE last_position >= %(lowest)s AND first_position <= %(highest)s;
"""
INDEX_DELIVERIES = """
CREATE INDEX ON pg_temp.deliveries (topic, partition, first_offset DESC);
CREATE INDEX ON pg_temp.deliveries (topic, partition, last_position);
ANALYZE pg_temp.deliveries
"""
# A message that an operator discarded was parked before; only the operation's details name it now.
ASIDE = """
INSERT INTO pg_temp.aside
SELECT position, 'parked' FROM outbox.parked_messages
WHERE position BETWEEN %(lowest)s AND %(highest)s
UNION ALL
SELECT DISTINCT (key->>'position')::bigint, 'discarded'
FROM outbox.operations, jsonb_array_elements(details->'keys') AS key
WHERE action = 'parked discard'
  AND (key->>'position')::bigint BETWEEN %(lowest)s AND %(highest)s
ON CONFLICT DO NOTHING
"""
# Where to look in a partition. The range begins at the first delivery that does not end before it:
# late commits put low positions at high offsets, so the last delivery that ends before the range is
# no bound. Records that a crash sent and did not record lie before that first delivery, but behind
# the delivery before it. Records without a position belong to the range up to the next delivery
# behind the last one of the range.
PLACES = """
WITH reached AS (
    SELECT topic, partition, min(first_offset) AS first
    FROM outbox.deliveries WHERE last_position >= %(lowest)s GROUP BY topic, partition
), last AS (
    SELECT topic, partition, max(last_offset) AS last
    FROM outbox.deliveries WHERE first_position <= %(highest)s GROUP BY topic, partition
)
SELECT delivery.topic, delivery.partition,
       coalesce(max(last_offset) FILTER (WHERE last_offset < reached.first
                                            OR reached.first IS NULL) + 1, 0),
       coalesce(min(first_offset) FILTER (WHERE first_offset > last.last), %(unbounded)s)
FROM outbox.deliveries AS delivery JOIN pg_temp.topics AS topic ON topic.name = delivery.topic
LEFT JOIN reached ON (reached.topic, reached.partition) = (delivery.topic, delivery.partition)
LEFT JOIN last ON (last.topic, last.partition) = (delivery.topic, delivery.partition)
GROUP BY delivery.topic, delivery.partition
"""


@dataclass(frozen=True, slots=True)
class Range:
    """The messages to audit: by position, by time, or all that PostgreSQL still has.

    A time is an instant, or a duration before the database's now. `topics` restricts them further.
    """

    from_position: int | None = None
    to_position: int | None = None
    since: datetime | str | None = None
    until: datetime | str | None = None
    topics: Sequence[str] | None = None

    def check(self) -> None:
        """Raise InvalidInput where it mixes positions and times, or where it is empty."""
        by_position = (self.from_position, self.to_position) != (None, None)
        if by_position and (self.since, self.until) != (None, None):
            raise InvalidInput("range", "range", "is given by positions or by times, not by both")
        if (self.from_position or 0) > (HIGHEST if self.to_position is None else self.to_position):
            raise InvalidInput("range", "from-position", "must not be above the last one")


@dataclass(frozen=True, slots=True)
class AuditScope:
    """What `read_scope` found.

    With `open` no lower bound was asked for, so none is applied. `places` has for each partition
    the offset at which the range may begin, and that at which its neighbours begin. Deliveries from
    before `deliveries_since` may have been deleted; it is None where none has been.
    """

    lowest: int
    highest: int
    open: bool
    cursor: str
    upto: str | None
    passed: int
    committed: str
    deliveries_since: datetime | None
    topics: Mapping[str, int]
    places: Mapping[Partition, OffsetRange]

    def span(self, at: Partition, held: OffsetRange) -> OffsetRange:
        """Return the offsets of a partition to read; all, if the topic was created anew since."""
        place = self.places.get(at, OffsetRange(0, HIGHEST))
        return OffsetRange(
            held.first if place.first > held.end else max(place.first, held.first), held.end
        )


async def read_scope(connection: psycopg.AsyncConnection[Any], asked: Range) -> AuditScope:
    """Read the scope in one short transaction of one snapshot.

    InvalidInput for an invalid range; Halted where the relay's cursor means nothing here.
    """
    asked.check()
    await connection.execute(PREPARE)
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        identity = await read_identity(connection)
        if identity.foreign_ids:
            raise Halted(str(identity.explain_halt()))
        return await _read_scope(connection, asked)


async def _read_scope(connection: psycopg.AsyncConnection[Any], asked: Range) -> AuditScope:
    async with connection.cursor(row_factory=dict_row) as cursor:
        relay = require_relay_row(await (await cursor.execute(RELAY)).fetchone())
    lowest, highest = await _read_bounds(connection, asked, relay)
    values = {"lowest": lowest, "highest": highest, "topics": asked.topics and list(asked.topics)}
    topics = await (await connection.execute(TOPICS, values)).fetchall()
    await connection.execute(DELIVERIES, values)
    await connection.execute(INDEX_DELIVERIES)
    await connection.execute(ASIDE, values)
    places = await connection.execute(PLACES, values | {"unbounded": HIGHEST})
    return AuditScope(
        lowest, highest, _is_open(asked), relay["cursor"], relay["upto"], relay["position"],
        relay["committed"], relay["deliveries_since"], {name: number for number, name in topics},
        {(topic, at): OffsetRange(first, end) for topic, at, first, end in await places.fetchall()},
    )  # fmt: skip


def _is_open(asked: Range) -> bool:
    return asked.from_position is None and asked.since is None


async def _read_bounds(
    connection: psycopg.AsyncConnection[Any], asked: Range, relay: Mapping[str, Any]
) -> tuple[int, int]:
    oldest, beyond = relay["oldest"] or 0, relay["highest"] + 1
    lowest = oldest if asked.from_position is None else asked.from_position
    highest = HIGHEST if asked.to_position is None else asked.to_position
    if asked.since is not None:
        lowest = await _read_position(connection, SINCE, asked.since, beyond)
    if asked.until is not None:
        highest = await _read_position(connection, UNTIL, asked.until, 0)
    return lowest, highest


async def _read_position(
    connection: psycopg.AsyncConnection[Any], statement: str, given: datetime | str, otherwise: int
) -> int:
    """Return the position for a time, or `otherwise` where no message is in it."""
    time: Any = given
    if isinstance(given, str):
        row = await (await connection.execute(DATABASE_TIME, {"before": given})).fetchone()
        time = row and row[0]
    elif given.tzinfo is None:
        time = given.replace(tzinfo=UTC)
    row = await (await connection.execute(statement.encode(), {"time": time})).fetchone()
    return otherwise if row is None or row[0] is None else int(row[0])
