-- Missing messages: which are lost, and which have expired; missing.py says how they are told apart.

-- name: prepare
CREATE TEMPORARY TABLE missing (position bigint, topic integer, partition integer);
CREATE TEMPORARY TABLE lost (position bigint, partition integer, delivery bigint);

-- name: find
SELECT missing.position, missing.topic, missing.key, topic.partitions
FROM pg_temp.comparison AS missing JOIN pg_temp.topics AS topic ON topic.number = missing.topic
WHERE missing.state = 'published' AND missing."offset" IS NULL
  AND missing.id NOT IN (SELECT id FROM pg_temp.comparison WHERE state = 'moved')

-- name: copy
COPY pg_temp.missing FROM STDIN

-- name: judge
-- The records of a delivery are in order of position, so a message below the lowest record that is
-- still there went with the topic's beginning. Deliveries are deleted after a time as well: a
-- message from before the oldest delivery that is left may have been covered by a deleted one.
WITH edge AS MATERIALIZED (
    SELECT delivery.id, min(record.record_position) AS lowest
    FROM pg_temp.deliveries AS delivery JOIN pg_temp.partitions AS place USING (topic, partition)
    LEFT JOIN pg_temp.comparison AS record ON record.delivery = delivery.id
    WHERE place.log_start > first_offset AND place.log_start <= last_offset
    GROUP BY delivery.id
)
INSERT INTO pg_temp.lost
SELECT missing.position, missing.partition, delivery.id
FROM pg_temp.missing AS missing
JOIN outbox.messages AS message ON message.position = missing.position
LEFT JOIN pg_temp.partitions AS place
       ON place.topic = missing.topic AND place.partition = missing.partition
LEFT JOIN LATERAL (
    SELECT * FROM pg_temp.deliveries AS delivery
    WHERE delivery.topic = missing.topic AND delivery.partition = missing.partition
      AND delivery.last_position >= missing.position AND delivery.first_position <= missing.position
    ORDER BY delivery.last_position LIMIT 1) AS delivery ON true
LEFT JOIN edge ON edge.id = delivery.id
WHERE NOT coalesce(CASE
    WHEN delivery.id IS NULL THEN place.log_start > 0 AND message.created_at < %(since)s
    WHEN delivery.last_offset < place.log_start THEN true
    WHEN edge.id IS NULL THEN false
    ELSE missing.position < coalesce(edge.lowest, delivery.last_position + 1) END, false)

-- name: count
SELECT (SELECT count(*) FROM pg_temp.missing), (SELECT count(*) FROM pg_temp.lost)
