-- Audit scope: what is audited, and where its records may be; scope.py says what is read when.

-- name: prepare
-- Temporary tables are this session's own, so nothing here writes to the outbox. Their memory is
-- bounded, and what is more goes to disk.
SET temp_buffers = '32MB'; SET work_mem = '48MB'; SET jit = off;
CREATE TEMPORARY TABLE topics (number integer, name text, partitions integer);
CREATE TEMPORARY TABLE aside (position bigint PRIMARY KEY, state text NOT NULL);
CREATE TEMPORARY TABLE deliveries (
    id bigint, term bigint, topic integer, partition integer, first_offset bigint,
    last_offset bigint, first_position bigint, last_position bigint, messages integer);
CREATE TEMPORARY TABLE partitions (topic integer, partition integer, log_start bigint,
                                   read_from bigint, neighbours_from bigint);

-- name: relay
SELECT cursor::text, upto::text, position, pg_current_snapshot()::text AS committed,
       (SELECT min(position) FROM outbox.messages) AS oldest,
       greatest(highest_position, (SELECT max(position) FROM outbox.messages)) AS highest,
       (SELECT CASE WHEN min(id) > 1 THEN min(delivered_at) END FROM outbox.deliveries)
           AS deliveries_since
FROM outbox.relay WHERE name = 'main'

-- name: since
-- Positions rise with time, but not strictly; a range of time becomes the positions that it spans.
SELECT min(position) FROM outbox.messages WHERE created_at >= %(time)s

-- name: until
SELECT max(position) FROM outbox.messages WHERE created_at < %(time)s

-- name: database_time
SELECT now() - %(before)s::interval

-- name: topics
-- Topics of messages of the range, or of its deliveries whose messages are dropped by now.
INSERT INTO pg_temp.topics
SELECT row_number() OVER (ORDER BY topic), topic, known.partitions
FROM (SELECT topic::text FROM outbox.messages WHERE position BETWEEN %(lowest)s AND %(highest)s
      UNION
      SELECT topic FROM outbox.deliveries
      WHERE last_position >= %(lowest)s AND first_position <= %(highest)s) AS named
LEFT JOIN outbox.topics AS known USING (topic)
WHERE %(topics)s::text[] IS NULL OR topic = ANY (%(topics)s)
RETURNING number, name

-- name: deliveries
INSERT INTO pg_temp.deliveries
SELECT delivery.id, term, topic.number, partition, first_offset, last_offset, first_position,
       last_position, messages
FROM outbox.deliveries AS delivery JOIN pg_temp.topics AS topic ON topic.name = delivery.topic
WHERE last_position >= %(lowest)s AND first_position <= %(highest)s;

-- name: index_deliveries
CREATE INDEX ON pg_temp.deliveries (topic, partition, first_offset DESC);
CREATE INDEX ON pg_temp.deliveries (topic, partition, last_position);
ANALYZE pg_temp.deliveries

-- name: aside
INSERT INTO pg_temp.aside
SELECT position, 'parked' FROM outbox.parked_messages
WHERE position BETWEEN %(lowest)s AND %(highest)s
UNION ALL
SELECT position, 'discarded' FROM outbox.discarded_messages
WHERE position BETWEEN %(lowest)s AND %(highest)s
ON CONFLICT DO NOTHING

-- name: places
-- Where to look in a partition. The range begins at the first delivery that does not end before it:
-- late commits put low positions at high offsets, so the last delivery that ends before the range is
-- no bound. Records that a crash sent and did not record lie before that first delivery, but behind
-- the delivery before it. Records without a position belong to the range up to the next delivery
-- behind the last one of the range.
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
