-- What an operator does about parked keys.

-- name: selected
(%(aggregate)s::text IS NULL OR key.aggregatetype = %(aggregate)s)
AND (%(key)s::text IS NULL OR key.aggregateid = %(key)s)
AND (%(topic)s::text IS NULL OR key.topic = %(topic)s)

-- name: list
SELECT key.aggregatetype, key.aggregateid, key.topic, key.position, key.reason, key.attempts,
       key.released, key.parked_at, waiting.messages
FROM outbox.parked AS key, LATERAL (
    SELECT count(*) AS messages FROM outbox.parked_messages AS waiting
    WHERE waiting.aggregatetype = key.aggregatetype AND waiting.aggregateid = key.aggregateid
) AS waiting
WHERE {selected} ORDER BY key.parked_at, key.position

-- name: release
-- A key that was released already is left to the relay, which may be trying it at this moment.
UPDATE outbox.parked AS key SET released = true WHERE {selected} AND NOT released
RETURNING aggregatetype, aggregateid, position

-- name: discard
WITH removed AS (
    DELETE FROM outbox.parked_messages
    WHERE aggregatetype = %s AND aggregateid = %s AND position = %s
    RETURNING position
)
INSERT INTO outbox.discarded_messages (position) SELECT position FROM removed
