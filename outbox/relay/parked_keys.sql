-- Parked keys, as the relay reads and writes them; {columns} are the fields of a Row of the cut.

-- name: read_waiting
-- The messages that wait for one key, in the order in which they were committed.
SELECT {columns}
FROM outbox.messages
WHERE position IN (
    SELECT position FROM outbox.parked_messages
    WHERE aggregatetype = %(aggregatetype)b AND aggregateid = %(key)b
    ORDER BY position LIMIT %(limit)b::bigint)
ORDER BY position

-- name: park
-- A key that is refused again keeps its messages, and waits for an operator again.
INSERT INTO outbox.parked (aggregatetype, aggregateid, topic, position, reason)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (aggregatetype, aggregateid) DO UPDATE
SET topic = EXCLUDED.topic, position = EXCLUDED.position, reason = EXCLUDED.reason,
    attempts = parked.attempts + 1, released = false

-- name: add_waiting
INSERT INTO outbox.parked_messages (aggregatetype, aggregateid, position) VALUES (%s, %s, %s)
ON CONFLICT DO NOTHING

-- name: remove_waiting
DELETE FROM outbox.parked_messages
WHERE aggregatetype = %s AND aggregateid = %s AND position = ANY (%s)

-- name: unpark
-- A key flows again only if it was released and no message of it waits any more.
DELETE FROM outbox.parked AS key
WHERE aggregatetype = %s AND aggregateid = %s AND released
  AND NOT EXISTS (SELECT FROM outbox.parked_messages AS waiting
                  WHERE waiting.aggregatetype = key.aggregatetype
                    AND waiting.aggregateid = key.aggregateid)
RETURNING 1
