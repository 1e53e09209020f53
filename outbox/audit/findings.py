"""Findings: reads everything that is not as it must be from the compared tables, with details.

lost         a message that the relay has passed is in no topic
doubled      a message is there more than once, each time unchanged; legal after a crash
altered      a record has a known id and other content, or a known version of a key and another id
reordered    a message first appears behind a higher version of its key, or in another partition
foreign      no committed message accounts for a record
misrecorded  a delivery is not what its offsets hold, or no delivery covers a record
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg
from psycopg.rows import dict_row

from outbox.audit.scope import AuditScope


class FindingKind(StrEnum):
    """The kinds of findings; the docstring of this module says what each means."""

    LOST = "lost"
    DOUBLED = "doubled"
    ALTERED = "altered"
    REORDERED = "reordered"
    FOREIGN = "foreign"
    MISRECORDED = "misrecorded"


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One difference and where it is; `offset` is None where there is no record.

    `why`, beside the kind, is one of: not-in-topic, copy, replay, other-topic, other-key,
    other-version, other-payload, other-extensions, other-id, after-a-higher-version,
    in-two-partitions, no-id, unknown-id, other-records, no-delivery. `details` hold the delivery,
    the place of the other record, or what was found instead.
    """

    kind: FindingKind
    why: str
    topic: str
    partition: int | None
    offset: int | None
    position: int | None
    key: str | None
    version: int | None
    id: str | None
    term: int | None
    details: dict[str, Any]


RECORD = """topic.name AS topic, record.partition, record."offset", record.position, record.key,
    record.version, record.id::text AS id, record.term"""
# The content of a delivery row.
DELIVERY = """jsonb_build_object('delivery', delivery.id, 'term', delivery.term,
    'offsets', jsonb_build_array(delivery.first_offset, delivery.last_offset),
    'positions', jsonb_build_array(delivery.first_position, delivery.last_position),
    'messages', delivery.messages)"""
# The record's day is past and has no daily partition, so whether there was a row is unknown now. A
# position below the oldest row's would not show that: it is drawn later than the day begins.
DROPPED = """(record.day < (now() AT TIME ZONE 'UTC')::date
    AND NOT EXISTS (SELECT FROM pg_temp.days
                    WHERE record.day >= days.first AND record.day < days.after))"""
STRANGE = f"record.state IS NULL AND (record.id IS NULL OR {DROPPED} IS NOT TRUE)"
NOT_KEPT = f"""SELECT count(*) FROM pg_temp.evidence AS record
WHERE record.state IS NULL AND NOT ({STRANGE})"""  # noqa: S608 - constants

LOST = f"""
SELECT 'not-in-topic' AS why, topic.name AS topic, lost.partition, NULL::bigint AS "offset",
       record.position, record.key, record.version, record.id::text AS id, delivery.term,
       CASE WHEN delivery.id IS NULL THEN '{{}}'::jsonb ELSE {DELIVERY} END AS details,
       count(*) OVER () AS total
FROM pg_temp.lost
JOIN pg_temp.evidence AS record USING (position)
JOIN pg_temp.topics AS topic ON topic.number = record.topic
LEFT JOIN pg_temp.deliveries AS delivery ON delivery.id = lost.delivery
ORDER BY record.position LIMIT %(limit)s
"""  # noqa: S608 - constants

# Term 0 is that of a replay, not of a relay. A copy is a record whose message has an earlier one;
# where the two are in different partitions, the one in the lower partition counts as earlier. That
# first record is not in doubt, so it is looked for among all records, not among the candidates.
DOUBLED = f"""
WITH copies AS (
    SELECT DISTINCT ON (copy.topic, copy.partition, copy."offset") copy.*,
           first.partition AS first_partition, first."offset" AS first_offset
    FROM pg_temp.suspects AS copy JOIN pg_temp.evidence AS first USING (id)
    WHERE copy.differs IS NULL
      AND (first.partition, first."offset") < (copy.partition, copy."offset")
    ORDER BY copy.topic, copy.partition, copy."offset", first.partition, first."offset"
)
SELECT CASE record.term WHEN 0 THEN 'replay' ELSE 'copy' END AS why, {RECORD},
       jsonb_build_object('first', jsonb_build_array(first_partition, first_offset)) AS details,
       count(*) OVER () AS total
FROM copies AS record JOIN pg_temp.topics AS topic ON topic.number = record.topic
ORDER BY record.position, record.partition, record."offset" LIMIT %(limit)s
"""  # noqa: S608 - constants

ALTERED = f"""
SELECT differs AS why, {RECORD}, '{{}}'::jsonb AS details, count(*) OVER () AS total
FROM pg_temp.evidence AS record JOIN pg_temp.topics AS topic ON topic.number = record.topic
WHERE differs IS NOT NULL
ORDER BY record.position, record.partition, record."offset" LIMIT %(limit)s
"""  # noqa: S608 - constants
# A version that was published twice with two ids, for example before and after a failover lost it.
REPUBLISHED = """
SELECT 'other-id' AS why, topic.name AS topic, record.partition, record."offset",
       record.said AS position, record.key, record.version, record.id::text AS id, record.term,
       known AS details, count(*) OVER () AS total
FROM (SELECT DISTINCT ON (record.topic, record.partition, record."offset") record.*,
             jsonb_build_object('id', known.id, 'position', known.position,
                                'partition', known.partition, 'offset', known."offset") AS known
      FROM pg_temp.evidence AS record JOIN pg_temp.evidence AS known USING (topic, key, version)
      WHERE record.state IS NULL AND known.state IS NOT NULL
      ORDER BY record.topic, record.partition, record."offset", known."offset") AS record
JOIN pg_temp.topics AS topic ON topic.number = record.topic
ORDER BY record.said, record.partition, record."offset" LIMIT %(limit)s
"""

# A version that comes behind a higher one, and had not come before. Replays are left out: they
# publish acknowledged messages once more, and where the topic's own retention has removed those,
# the replayed records are the first that are left.
REORDERED = f"""
WITH behind AS (SELECT * FROM pg_temp.suspects
                WHERE version < highest AND term IS DISTINCT FROM 0)
SELECT 'after-a-higher-version' AS why, {RECORD},
       jsonb_build_object('higher', record.highest) AS details, count(*) OVER () AS total
FROM behind AS record JOIN pg_temp.topics AS topic ON topic.number = record.topic
WHERE (record.topic, record.partition, record."offset") NOT IN (
    SELECT again.topic, again.partition, again."offset"
    FROM behind AS again JOIN pg_temp.evidence AS earlier USING (id, topic, partition)
    WHERE earlier."offset" < again."offset")
ORDER BY record.position LIMIT %(limit)s
"""  # noqa: S608 - constants
# A key's partition is that of its first version; a record in a delivery goes before one in none.
TWO_PARTITIONS = f"""
WITH streams AS (
    SELECT DISTINCT topic, aggregatetype, key FROM pg_temp.suspects
    WHERE partition <> lowest_partition
), records AS (
    SELECT record.*, first_value(partition) OVER (PARTITION BY topic, aggregatetype, key
               ORDER BY version, delivery IS NULL, "offset") AS home
    FROM pg_temp.evidence AS record JOIN streams USING (topic, aggregatetype, key)
    WHERE state IS NOT NULL AND "offset" IS NOT NULL
)
SELECT 'in-two-partitions' AS why, {RECORD}, jsonb_build_object('home', home) AS details,
       count(*) OVER () AS total
FROM records AS record JOIN pg_temp.topics AS topic ON topic.number = record.topic
WHERE record.partition <> home
ORDER BY record.position, record.partition, record."offset" LIMIT %(limit)s
"""  # noqa: S608 - constants

FOREIGN = f"""
SELECT CASE WHEN record.id IS NULL THEN 'no-id' ELSE 'unknown-id' END AS why,
       topic.name AS topic, record.partition, record."offset", record.said AS position, record.key,
       record.version, record.id::text AS id, record.term, '{{}}'::jsonb AS details,
       count(*) OVER () AS total
FROM pg_temp.evidence AS record JOIN pg_temp.topics AS topic ON topic.number = record.topic
WHERE {STRANGE}
ORDER BY record.topic, record.partition, record."offset" LIMIT %(limit)s
"""  # noqa: S608 - constants

# Only deliveries that lie wholly in the range, and whose offsets were all read, are checked.
OTHER_RECORDS = f"""
SELECT 'other-records' AS why, topic.name AS topic, delivery.partition,
       delivery.first_offset AS "offset", delivery.first_position AS position, NULL::bytea AS key,
       NULL::bigint AS version, NULL::text AS id, delivery.term,
       {DELIVERY} || jsonb_build_object('found', jsonb_build_object(
           'positions', jsonb_build_array(found.lowest, found.highest),
           'messages', coalesce(found.messages, 0))) AS details,
       count(*) OVER () AS total
FROM pg_temp.deliveries AS delivery
JOIN pg_temp.topics AS topic ON topic.number = delivery.topic
LEFT JOIN pg_temp.partitions AS place
       ON (place.topic, place.partition) = (delivery.topic, delivery.partition)
LEFT JOIN (SELECT delivery, count(*) AS messages, min(said) AS lowest, max(said) AS highest
           FROM pg_temp.evidence WHERE delivery IS NOT NULL GROUP BY delivery) AS found
       ON found.delivery = delivery.id
WHERE delivery.first_position >= %(lowest)s AND delivery.last_position <= %(highest)s
  AND delivery.first_offset >= coalesce(greatest(place.log_start, place.read_from), 0)
  AND (delivery.last_offset - delivery.first_offset + 1,
       found.messages, found.lowest, found.highest)
      IS DISTINCT FROM (delivery.messages::bigint,
       delivery.messages::bigint, delivery.first_position, delivery.last_position)
ORDER BY delivery.id LIMIT %(limit)s
"""  # noqa: S608 - constants
# It is enough if one record of a message is in a delivery. A replay records no deliveries.
NO_DELIVERY = f"""
WITH bare AS MATERIALIZED (
    SELECT * FROM pg_temp.evidence
    WHERE state = 'published' AND "offset" IS NOT NULL AND delivery IS NULL
      AND term IS DISTINCT FROM 0
)
SELECT 'no-delivery' AS why, {RECORD}, '{{}}'::jsonb AS details, count(*) OVER () AS total
FROM bare AS record JOIN pg_temp.topics AS topic ON topic.number = record.topic
JOIN outbox.messages AS message ON message.position = record.position
WHERE record.id NOT IN (SELECT covered.id FROM pg_temp.evidence AS covered JOIN bare USING (id)
                        WHERE covered.delivery IS NOT NULL)
  AND coalesce(message.created_at >= %(since)s, true)
ORDER BY record.position, record.partition, record."offset" LIMIT %(limit)s
"""  # noqa: S608 - constants

STATEMENTS = {
    FindingKind.LOST: (LOST,),
    FindingKind.DOUBLED: (DOUBLED,),
    FindingKind.ALTERED: (ALTERED, REPUBLISHED),
    FindingKind.REORDERED: (REORDERED, TWO_PARTITIONS),
    FindingKind.FOREIGN: (FOREIGN,),
    FindingKind.MISRECORDED: (OTHER_RECORDS, NO_DELIVERY),
}


async def read_findings(
    connection: psycopg.AsyncConnection[Any], scope: AuditScope, limit: int
) -> tuple[dict[str, int], list[AuditFinding]]:
    """Return the number of findings of each kind, and at most `limit` of each kind.

    Those of one kind are in the order of their positions, or of topic, partition and offset.
    """
    values = {
        "limit": limit, "lowest": scope.lowest, "highest": scope.highest,
        "since": scope.deliveries_since,
    }  # fmt: skip
    counts = dict.fromkeys(map(str, FindingKind), 0)
    findings: list[AuditFinding] = []
    for kind, statements in STATEMENTS.items():
        found: list[AuditFinding] = []
        for statement in statements:
            total, some = await _read_statement(connection, kind, statement, values)
            counts[kind] += total
            found += some
        findings += found[:limit]
    return counts, findings


async def count_dropped_records(connection: psycopg.AsyncConnection[Any]) -> int:
    """Return how many records are of daily partitions that PostgreSQL has dropped."""
    row = await (await connection.execute(NOT_KEPT.encode())).fetchone()
    return int(row[0]) if row else 0


async def _read_statement(
    connection: psycopg.AsyncConnection[Any],
    kind: FindingKind,
    statement: str,
    values: dict[str, Any],
) -> tuple[int, list[AuditFinding]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement.encode(), values)
        rows = await cursor.fetchall()
    total = rows[0]["total"] if rows else 0
    return total, [_build_finding(kind, row) for row in rows]


def _build_finding(kind: FindingKind, row: dict[str, Any]) -> AuditFinding:
    """Build a finding from a row; a key may be any bytes where another program sent the record."""
    key = row["key"]
    fields = {name: value for name, value in row.items() if name != "total"}
    shown = None if key is None else bytes(key).decode(errors="backslashreplace")
    return AuditFinding(kind, **(fields | {"key": shown}))
