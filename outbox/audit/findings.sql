-- Findings: what is not as it must be, read from the compared tables; findings.py names the kinds.

-- name: record
topic.name AS topic, record.partition, record."offset", record.position, record.key,
    record.version, record.id::text AS id, record.term

-- name: delivery
-- The content of a delivery row.
jsonb_build_object('delivery', delivery.id, 'term', delivery.term,
    'offsets', jsonb_build_array(delivery.first_offset, delivery.last_offset),
    'positions', jsonb_build_array(delivery.first_position, delivery.last_position),
    'messages', delivery.messages)

-- name: dropped
-- The record's day is past and has no daily partition, so whether there was a row is unknown now. A
-- position below the oldest row's would not show that: it is drawn later than the day begins.
(record.day < (now() AT TIME ZONE 'UTC')::date
    AND NOT EXISTS (SELECT FROM pg_temp.days
                    WHERE record.day >= days.first AND record.day < days.after))

-- name: strange
record.state IS NULL AND (record.id IS NULL OR {dropped} IS NOT TRUE)

-- name: not_kept
SELECT count(*) FROM pg_temp.comparison AS record
WHERE record.state IS NULL AND NOT ({strange})

-- name: lost
SELECT 'not-in-topic' AS why, topic.name AS topic, lost.partition, NULL::bigint AS "offset",
       record.position, record.key, record.version, record.id::text AS id, delivery.term,
       CASE WHEN delivery.id IS NULL THEN '{}'::jsonb ELSE {delivery} END AS details,
       count(*) OVER () AS total
FROM pg_temp.lost
JOIN pg_temp.comparison AS record USING (position)
JOIN pg_temp.topics AS topic ON topic.number = record.topic
LEFT JOIN pg_temp.deliveries AS delivery ON delivery.id = lost.delivery
ORDER BY record.position LIMIT %(limit)s

-- name: doubled
-- Term 0 is that of a replay, not of a relay. A copy is a record whose message has an earlier one;
-- where the two are in different partitions, the one in the lower partition counts as earlier. That
-- first record is not in doubt, so it is looked for among all records, not among the candidates.
WITH copies AS (
    SELECT DISTINCT ON (copy.topic, copy.partition, copy."offset") copy.*,
           first.partition AS first_partition, first."offset" AS first_offset
    FROM pg_temp.candidates AS copy JOIN pg_temp.comparison AS first USING (id)
    WHERE copy.differs IS NULL
      AND (first.partition, first."offset") < (copy.partition, copy."offset")
    ORDER BY copy.topic, copy.partition, copy."offset", first.partition, first."offset"
)
SELECT CASE record.term WHEN 0 THEN 'replay' ELSE 'copy' END AS why, {record},
       jsonb_build_object('first', jsonb_build_array(first_partition, first_offset)) AS details,
       count(*) OVER () AS total
FROM copies AS record JOIN pg_temp.topics AS topic ON topic.number = record.topic
ORDER BY record.position, record.partition, record."offset" LIMIT %(limit)s

-- name: altered
SELECT differs AS why, {record}, '{}'::jsonb AS details, count(*) OVER () AS total
FROM pg_temp.comparison AS record JOIN pg_temp.topics AS topic ON topic.number = record.topic
WHERE differs IS NOT NULL
ORDER BY record.position, record.partition, record."offset" LIMIT %(limit)s

-- name: republished
-- A version that was published twice with two ids, for example before and after a failover lost it.
SELECT 'other-id' AS why, topic.name AS topic, record.partition, record."offset",
       record.record_position AS position, record.key, record.version, record.id::text AS id, record.term,
       known AS details, count(*) OVER () AS total
FROM (SELECT DISTINCT ON (record.topic, record.partition, record."offset") record.*,
             jsonb_build_object('id', known.id, 'position', known.position,
                                'partition', known.partition, 'offset', known."offset") AS known
      FROM pg_temp.comparison AS record JOIN pg_temp.comparison AS known USING (topic, key, version)
      WHERE record.state IS NULL AND known.state IS NOT NULL
      ORDER BY record.topic, record.partition, record."offset", known."offset") AS record
JOIN pg_temp.topics AS topic ON topic.number = record.topic
ORDER BY record.record_position, record.partition, record."offset" LIMIT %(limit)s

-- name: reordered
-- A version that comes behind a higher one, and had not come before. Replays are left out: they
-- publish acknowledged messages once more, and where the topic's own retention has removed those,
-- the replayed records are the first that are left.
WITH behind AS (SELECT * FROM pg_temp.candidates
                WHERE version < highest AND term IS DISTINCT FROM 0)
SELECT 'after-a-higher-version' AS why, {record},
       jsonb_build_object('higher', record.highest) AS details, count(*) OVER () AS total
FROM behind AS record JOIN pg_temp.topics AS topic ON topic.number = record.topic
WHERE (record.topic, record.partition, record."offset") NOT IN (
    SELECT again.topic, again.partition, again."offset"
    FROM behind AS again JOIN pg_temp.comparison AS earlier USING (id, topic, partition)
    WHERE earlier."offset" < again."offset")
ORDER BY record.position LIMIT %(limit)s

-- name: two_partitions
-- A key's partition is that of its first version; a record in a delivery goes before one in none.
WITH streams AS (
    SELECT DISTINCT topic, aggregatetype, key FROM pg_temp.candidates
    WHERE partition <> lowest_partition
), records AS (
    SELECT record.*, first_value(partition) OVER (PARTITION BY topic, aggregatetype, key
               ORDER BY version, delivery IS NULL, "offset") AS home
    FROM pg_temp.comparison AS record JOIN streams USING (topic, aggregatetype, key)
    WHERE state IS NOT NULL AND "offset" IS NOT NULL
)
SELECT 'in-two-partitions' AS why, {record}, jsonb_build_object('home', home) AS details,
       count(*) OVER () AS total
FROM records AS record JOIN pg_temp.topics AS topic ON topic.number = record.topic
WHERE record.partition <> home
ORDER BY record.position, record.partition, record."offset" LIMIT %(limit)s

-- name: foreign
SELECT CASE WHEN record.id IS NULL THEN 'no-id' ELSE 'unknown-id' END AS why,
       topic.name AS topic, record.partition, record."offset", record.record_position AS position, record.key,
       record.version, record.id::text AS id, record.term, '{}'::jsonb AS details,
       count(*) OVER () AS total
FROM pg_temp.comparison AS record JOIN pg_temp.topics AS topic ON topic.number = record.topic
WHERE {strange}
ORDER BY record.topic, record.partition, record."offset" LIMIT %(limit)s

-- name: other_records
-- Only deliveries that lie wholly in the range, and whose offsets were all read, are checked.
SELECT 'other-records' AS why, topic.name AS topic, delivery.partition,
       delivery.first_offset AS "offset", delivery.first_position AS position, NULL::bytea AS key,
       NULL::bigint AS version, NULL::text AS id, delivery.term,
       {delivery} || jsonb_build_object('found', jsonb_build_object(
           'positions', jsonb_build_array(found.lowest, found.highest),
           'messages', coalesce(found.messages, 0))) AS details,
       count(*) OVER () AS total
FROM pg_temp.deliveries AS delivery
JOIN pg_temp.topics AS topic ON topic.number = delivery.topic
LEFT JOIN pg_temp.partitions AS place
       ON (place.topic, place.partition) = (delivery.topic, delivery.partition)
LEFT JOIN (SELECT delivery, count(*) AS messages, min(record_position) AS lowest, max(record_position) AS highest
           FROM pg_temp.comparison WHERE delivery IS NOT NULL GROUP BY delivery) AS found
       ON found.delivery = delivery.id
WHERE delivery.first_position >= %(lowest)s AND delivery.last_position <= %(highest)s
  AND delivery.first_offset >= coalesce(greatest(place.log_start, place.read_from), 0)
  AND (delivery.last_offset - delivery.first_offset + 1,
       found.messages, found.lowest, found.highest)
      IS DISTINCT FROM (delivery.messages::bigint,
       delivery.messages::bigint, delivery.first_position, delivery.last_position)
ORDER BY delivery.id LIMIT %(limit)s

-- name: no_delivery
-- It is enough if one record of a message is in a delivery. A replay records no deliveries.
WITH bare AS MATERIALIZED (
    SELECT * FROM pg_temp.comparison
    WHERE state = 'published' AND "offset" IS NOT NULL AND delivery IS NULL
      AND term IS DISTINCT FROM 0
)
SELECT 'no-delivery' AS why, {record}, '{}'::jsonb AS details, count(*) OVER () AS total
FROM bare AS record JOIN pg_temp.topics AS topic ON topic.number = record.topic
JOIN outbox.messages AS message ON message.position = record.position
WHERE record.id NOT IN (SELECT covered.id FROM pg_temp.comparison AS covered JOIN bare USING (id)
                        WHERE covered.delivery IS NOT NULL)
  AND coalesce(message.created_at >= %(since)s, true)
ORDER BY record.position, record.partition, record."offset" LIMIT %(limit)s
