"""Comparison: puts the records of the topics beside the messages of PostgreSQL, in SQL.

Records are copied into temporary tables as they are read, and SQL compares them, so memory here
does not grow with the range. The id says which message a record belongs to: where a database was
reconciled, positions may have changed since a record was sent, but ids never do.
"""

from collections.abc import Mapping
from typing import Any

import psycopg

from outbox.audit.scope import AuditScope
from outbox.kafka import Partition
from outbox.kafka.reader import OffsetRange
from schemas.extensions import RESERVED
from schemas.limits import ATTRIBUTE_BYTES, EXTENSION_NAME_CHARACTERS

Connection = psycopg.AsyncConnection[Any]

PREPARE = """
CREATE TEMPORARY TABLE records (
    topic integer, partition integer, "offset" bigint, position bigint, id uuid, key bytea,
    version bigint, term bigint, day date, digest bytea, extensions bytea, behind boolean);
CREATE TEMPORARY TABLE evidence (
    state text, position bigint, id uuid, topic integer, aggregatetype text COLLATE "C", key bytea,
    version bigint, partition integer, "offset" bigint, said bigint, term bigint, day date,
    differs text, behind boolean, delivery bigint);
CREATE TEMPORARY TABLE suspects (
    topic integer, aggregatetype text COLLATE "C", key bytea, version bigint, partition integer,
    "offset" bigint, id uuid, position bigint, term bigint, differs text, highest bigint,
    lowest_partition integer);
CREATE TEMPORARY TABLE days (first date, after date);
"""
# The state of a message before the topics were read. A row that was committed since then accounts
# for its record, but is not expected to have one.
STATE = """CASE
    WHEN NOT pg_visible_in_snapshot(message.transaction_id, %(committed)s::pg_snapshot) THEN 'later'
    WHEN aside.state IS NOT NULL THEN aside.state
    WHEN pg_visible_in_snapshot(message.transaction_id, %(cursor)s::pg_snapshot)
      OR (message.position <= %(passed)s
          AND pg_visible_in_snapshot(message.transaction_id, %(upto)s::pg_snapshot))
        THEN 'published'
    ELSE 'pending' END"""
MESSAGES = """
    FROM outbox.messages AS message
    JOIN pg_temp.topics AS topic ON topic.name = message.topic
    LEFT JOIN pg_temp.aside AS aside ON aside.position = message.position
    WHERE message.position BETWEEN %(lowest)s AND %(highest)s"""
COUNT = f"SELECT {STATE} AS state, count(*) {MESSAGES} GROUP BY 1"

# Equal to `_digest` of topic_scan: over type and payload; no payload differs from an empty one.
DIGEST = """substring(sha256(convert_to(
    message.type || coalesce(E'\\n' || message.payload, ''), 'UTF8')) FOR 16)"""
# Equal to `_digest_extensions` of topic_scan: over the headers that a relay sends, without those of
# tracing; NULL where there are none, which is nearly always so.
EXTENSIONS = f"""CASE
    WHEN message.headers = '{{}}'
      OR message.headers - '{{correlationid,causationid,traceparent}}'::text[] = '{{}}' THEN NULL
    WHEN jsonb_typeof(message.headers) = 'object' THEN (
        SELECT substring(sha256(convert_to(
                   string_agg(name || '=' || text, E'\\n' ORDER BY name COLLATE "C"),
                   'UTF8')) FOR 16)
        FROM jsonb_each_text(message.headers) AS header (name, text)
        WHERE name ~ '^[a-z0-9]{{1,{EXTENSION_NAME_CHARACTERS}}}$'
          AND name <> ALL ('{{{",".join(sorted(RESERVED))}}}'::text[])
          AND jsonb_typeof(message.headers -> name) = 'string'
          AND octet_length(text) <= {ATTRIBUTE_BYTES}
          AND text !~ '[\\u0001-\\u001f\\u007f-\\u009f\\u2028\\u2029]')
    END"""  # noqa: S608 - constants
DIFFERS = """CASE
    WHEN record."offset" IS NULL OR message.position IS NULL THEN NULL
    WHEN record.topic <> message.topic THEN 'other-topic'
    WHEN record.key IS DISTINCT FROM message.key THEN 'other-key'
    WHEN record.version IS DISTINCT FROM message.version THEN 'other-version'
    WHEN record.digest <> message.digest THEN 'other-payload'
    WHEN record.extensions IS DISTINCT FROM message.extensions THEN 'other-extensions' END"""
# One row for each record, and one for each message without a record. A record belongs to the
# delivery that begins last before it, or to none.
FILL = f"""
INSERT INTO pg_temp.evidence
SELECT message.state, message.position, coalesce(message.id, record.id),
       coalesce(record.topic, message.topic), message.aggregatetype,
       coalesce(message.key, record.key), coalesce(message.version, record.version),
       record.partition, record."offset", record.position, record.term, record.day, {DIFFERS},
       record.behind, CASE WHEN record."offset" <= near.last_offset THEN near.id END
FROM (SELECT message.position, message.id, topic.number AS topic, message.aggregatetype,
             convert_to(message.aggregateid, 'UTF8') AS key, message.version,
             {STATE} AS state, {DIGEST} AS digest, {EXTENSIONS} AS extensions {MESSAGES}) AS message
FULL JOIN pg_temp.records AS record ON record.position = message.position AND record.id = message.id
LEFT JOIN LATERAL (
    SELECT id, last_offset FROM pg_temp.deliveries AS delivery
    WHERE delivery.topic = record.topic AND delivery.partition = record.partition
      AND delivery.first_offset <= record."offset"
    ORDER BY delivery.first_offset DESC LIMIT 1) AS near ON true
"""  # noqa: S608 - constants
# Records with a known id, but another position or none: another program sent them, or they were
# sent before positions were replaced. The search has no index, so it runs only where there are any.
STRAYS = "SELECT EXISTS (SELECT FROM pg_temp.evidence WHERE state IS NULL AND id IS NOT NULL)"
RECOGNISE = f"""
UPDATE pg_temp.evidence AS stray
SET state = 'moved', position = message.position, aggregatetype = message.aggregatetype,
    key = message.key, version = message.version, differs = {DIFFERS}
FROM pg_temp.records AS record,
     (SELECT message.position, message.id, topic.number AS topic, message.aggregatetype,
             convert_to(message.aggregateid, 'UTF8') AS key, message.version, {DIGEST} AS digest,
             {EXTENSIONS} AS extensions
      FROM outbox.messages AS message
      LEFT JOIN pg_temp.topics AS topic ON topic.name = message.topic) AS message
WHERE stray.state IS NULL AND message.id = stray.id
  AND (record.topic, record.partition, record."offset")
    = (stray.topic, stray.partition, stray."offset")
"""  # noqa: S608 - constants
# In a correct history without copies, a key is in one partition, and its versions only rise there.
# Positions of a key rise with its versions, so a key is in doubt only where a record comes behind a
# higher position of any key; late commits do, and they are few. Of such keys, the records that come
# behind their own version or a higher one are the candidates
# (`suspects`). Only these keys are sorted.
FIND_CANDIDATES = """
WITH streams AS MATERIALIZED (
    SELECT topic, key, aggregatetype FROM pg_temp.evidence
    WHERE state IS NOT NULL AND "offset" IS NOT NULL GROUP BY topic, key, aggregatetype
    HAVING min(partition) <> max(partition) OR bool_or(behind) OR bool_or(state = 'moved')
)
INSERT INTO pg_temp.suspects
SELECT * FROM (
    SELECT topic, aggregatetype, key, version, partition, "offset", id, position, term, differs,
           max(version) OVER (PARTITION BY topic, key, aggregatetype, partition ORDER BY "offset"
                              ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest,
           first_value(partition) OVER (PARTITION BY topic, key, aggregatetype
                                        ORDER BY partition, "offset") AS lowest_partition
    FROM pg_temp.evidence JOIN streams USING (topic, key, aggregatetype)
    WHERE state IS NOT NULL AND "offset" IS NOT NULL
) AS record
WHERE version <= highest OR partition <> lowest_partition
"""
# The bounds are text; the session that writes them reads them back, so its settings do not matter.
DAYS = """
INSERT INTO pg_temp.days
SELECT (bounds[1]::timestamptz AT TIME ZONE 'UTC')::date,
       (bounds[2]::timestamptz AT TIME ZONE 'UTC')::date
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid,
     regexp_match(pg_get_expr(relpartbound, inhrelid),
                  $$FROM \\('(.+)'\\) TO \\('(.+)'\\)$$) AS bounds
WHERE inhparent = 'outbox.messages'::regclass AND bounds IS NOT NULL
"""
PLACE = "INSERT INTO pg_temp.partitions VALUES (%s, %s, %s, %s)"
# The planner does not know the sizes of tables that were filled a moment ago, and often not that of
# the messages: nested loops would take days.
PLANS = "SET LOCAL enable_nestloop = off"
ANALYZE = """
SET LOCAL enable_nestloop = on;
ANALYZE pg_temp.evidence (id, state, "offset", delivery, differs); ANALYZE pg_temp.suspects
"""


async def note_partitions(
    connection: Connection,
    scope: AuditScope,
    spans: Mapping[Partition, OffsetRange],
    held: Mapping[Partition, OffsetRange],
) -> None:
    """Store where each partition begins now, after it was read, and where reading began."""
    values = [
        [scope.topics[at[0]], at[1], held[at].first, span.first] for at, span in spans.items()
    ]
    if values:
        await connection.cursor().executemany(PLACE, values)


async def compare_records(connection: Connection, scope: AuditScope) -> dict[str, int]:
    """Fill the tables that findings are read from; return the number of messages in each state."""
    values = {
        "lowest": scope.lowest, "highest": scope.highest, "cursor": scope.cursor,
        "upto": scope.upto, "passed": scope.passed, "committed": scope.committed,
    }  # fmt: skip
    await connection.execute(DAYS)
    await connection.execute(PLANS)
    await connection.execute(FILL.encode(), values)
    row = await (await connection.execute(STRAYS)).fetchone()
    if row and row[0]:
        await connection.execute(RECOGNISE.encode())
    await connection.execute(FIND_CANDIDATES)
    await connection.execute(ANALYZE)
    return dict(await (await connection.execute(COUNT.encode(), values)).fetchall())
