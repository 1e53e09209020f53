-- Comparison: the records of the topics beside the messages, one row for each; comparison.py says why.

-- name: prepare
CREATE TEMPORARY TABLE records (
    topic integer, partition integer, "offset" bigint, position bigint, id uuid, key bytea,
    version bigint, term bigint, day date, digest bytea, extensions bytea, behind boolean);
CREATE TEMPORARY TABLE comparison (
    state text, position bigint, id uuid, topic integer, aggregatetype text COLLATE "C", key bytea,
    version bigint, partition integer, "offset" bigint, record_position bigint, term bigint, day date,
    differs text, behind boolean, delivery bigint);
CREATE TEMPORARY TABLE candidates (
    topic integer, aggregatetype text COLLATE "C", key bytea, version bigint, partition integer,
    "offset" bigint, id uuid, position bigint, term bigint, differs text, highest bigint,
    lowest_partition integer);
CREATE TEMPORARY TABLE days (first date, after date);

-- name: state
-- The state of a message before the topics were read. A row that was committed since then accounts
-- for its record, but is not expected to have one.
CASE
    WHEN NOT pg_visible_in_snapshot(message.transaction_id, %(committed)s::pg_snapshot) THEN 'later'
    WHEN aside.state IS NOT NULL THEN aside.state
    WHEN outbox.is_published(message.transaction_id, message.position, %(cursor)s::pg_snapshot,
                             %(upto)s::pg_snapshot, %(passed)s) THEN 'published'
    ELSE 'pending' END

-- name: messages
FROM outbox.messages AS message
JOIN pg_temp.topics AS topic ON topic.name = message.topic
LEFT JOIN pg_temp.aside AS aside ON aside.position = message.position
WHERE message.position BETWEEN %(lowest)s AND %(highest)s

-- name: count
SELECT {state} AS state, count(*) {messages} GROUP BY 1

-- name: digest
-- Equal to `_digest` of topic_scan: over type and payload; no payload differs from an empty one.
substring(sha256(convert_to(
    message.type || coalesce(E'\n' || message.payload, ''), 'UTF8')) FOR 16)

-- name: extensions
-- Equal to `_digest_extensions` of topic_scan: over the headers that a relay sends, without those of
-- tracing; NULL where there are none, which is nearly always so.
CASE
    WHEN message.headers = '{}'
      OR message.headers - '{correlationid,causationid,traceparent}'::text[] = '{}' THEN NULL
    WHEN jsonb_typeof(message.headers) = 'object' THEN (
        SELECT substring(sha256(convert_to(
                   string_agg(name || '=' || text, E'\n' ORDER BY name COLLATE "C"),
                   'UTF8')) FOR 16)
        FROM jsonb_each_text(message.headers) AS header (name, text)
        WHERE name ~ %(extension_name)s
          AND name <> ALL (%(reserved)s::text[])
          AND jsonb_typeof(message.headers -> name) = 'string'
          AND octet_length(text) <= %(attribute_bytes)s
          AND text !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]')
    END

-- name: differs
CASE
    WHEN record."offset" IS NULL OR message.position IS NULL THEN NULL
    WHEN record.topic <> message.topic THEN 'other-topic'
    WHEN record.key IS DISTINCT FROM message.key THEN 'other-key'
    WHEN record.version IS DISTINCT FROM message.version THEN 'other-version'
    WHEN record.digest <> message.digest THEN 'other-payload'
    WHEN record.extensions IS DISTINCT FROM message.extensions THEN 'other-extensions' END

-- name: fill
-- One row for each record, and one for each message without a record. A record belongs to the
-- delivery that begins last before it, or to none.
INSERT INTO pg_temp.comparison
SELECT message.state, message.position, coalesce(message.id, record.id),
       coalesce(record.topic, message.topic), message.aggregatetype,
       coalesce(message.key, record.key), coalesce(message.version, record.version),
       record.partition, record."offset", record.position, record.term, record.day, {differs},
       record.behind, CASE WHEN record."offset" <= near.last_offset THEN near.id END
FROM (SELECT message.position, message.id, topic.number AS topic, message.aggregatetype,
             convert_to(message.aggregateid, 'UTF8') AS key, message.version,
             {state} AS state, {digest} AS digest, {extensions} AS extensions {messages}) AS message
FULL JOIN pg_temp.records AS record ON record.position = message.position AND record.id = message.id
LEFT JOIN LATERAL (
    SELECT id, last_offset FROM pg_temp.deliveries AS delivery
    WHERE delivery.topic = record.topic AND delivery.partition = record.partition
      AND delivery.first_offset <= record."offset"
    ORDER BY delivery.first_offset DESC LIMIT 1) AS near ON true

-- name: strays
-- Records with a known id, but another position or none: another program sent them, or they were
-- sent before positions were replaced. The search has no index, so it runs only where there are any.
SELECT EXISTS (SELECT FROM pg_temp.comparison WHERE state IS NULL AND id IS NOT NULL)

-- name: recognise
UPDATE pg_temp.comparison AS stray
SET state = 'moved', position = message.position, aggregatetype = message.aggregatetype,
    key = message.key, version = message.version, differs = {differs}
FROM pg_temp.records AS record,
     (SELECT message.position, message.id, topic.number AS topic, message.aggregatetype,
             convert_to(message.aggregateid, 'UTF8') AS key, message.version, {digest} AS digest,
             {extensions} AS extensions
      FROM outbox.messages AS message
      LEFT JOIN pg_temp.topics AS topic ON topic.name = message.topic) AS message
WHERE stray.state IS NULL AND message.id = stray.id
  AND (record.topic, record.partition, record."offset")
    = (stray.topic, stray.partition, stray."offset")

-- name: find_candidates
-- In a correct history without copies, a key is in one partition, and its versions only rise there.
-- Positions of a key rise with its versions, so a key is in doubt only where a record comes behind a
-- higher position of any key; late commits do, and they are few. Of such keys, the records that come
-- behind their own version or a higher one are the candidates. Only these keys are sorted.
WITH streams AS MATERIALIZED (
    SELECT topic, key, aggregatetype FROM pg_temp.comparison
    WHERE state IS NOT NULL AND "offset" IS NOT NULL GROUP BY topic, key, aggregatetype
    HAVING min(partition) <> max(partition) OR bool_or(behind) OR bool_or(state = 'moved')
)
INSERT INTO pg_temp.candidates
SELECT * FROM (
    SELECT topic, aggregatetype, key, version, partition, "offset", id, position, term, differs,
           max(version) OVER (PARTITION BY topic, key, aggregatetype, partition ORDER BY "offset"
                              ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest,
           first_value(partition) OVER (PARTITION BY topic, key, aggregatetype
                                        ORDER BY partition, "offset") AS lowest_partition
    FROM pg_temp.comparison JOIN streams USING (topic, key, aggregatetype)
    WHERE state IS NOT NULL AND "offset" IS NOT NULL
) AS record
WHERE version <= highest OR partition <> lowest_partition

-- name: days
-- The bounds are text; the session that writes them reads them back, so its settings do not matter.
INSERT INTO pg_temp.days
SELECT (bounds[1]::timestamptz AT TIME ZONE 'UTC')::date,
       (bounds[2]::timestamptz AT TIME ZONE 'UTC')::date
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid,
     regexp_match(pg_get_expr(relpartbound, inhrelid),
                  $$FROM \('(.+)'\) TO \('(.+)'\)$$) AS bounds
WHERE inhparent = 'outbox.messages'::regclass AND bounds IS NOT NULL

-- name: place
INSERT INTO pg_temp.partitions VALUES (%s, %s, %s, %s)

-- name: plans
-- The planner does not know the sizes of tables that were filled a moment ago, and often not that of
-- the messages: nested loops would take days.
SET LOCAL enable_nestloop = off

-- name: analyze
SET LOCAL enable_nestloop = on;
ANALYZE pg_temp.comparison (id, state, "offset", delivery, differs); ANALYZE pg_temp.candidates
