-- What a consumer does with its dead letters; store.py says what it promises.

-- name: write
-- Returns the id of the letter, also of one that stays as it is.
-- A message that is delivered again finds its letter there. An open letter stays as it is; so does a
-- discarded one, which an operator gave up. A letter that was applied is opened again, because this
-- time the message failed. A different message at the same offset comes from a topic that was
-- deleted and created again; only a closed letter is overwritten by it.
WITH written AS (
    INSERT INTO outbox.dead_letters AS letter
        (consumer, topic, partition, "offset", key, value, headers, timestamp_milliseconds, stream,
         reason, error, attempts, status)
    VALUES
        (%(consumer)s, %(topic)s, %(partition)s, %(offset)s, %(key)s, %(value)s, %(headers)s::jsonb,
         %(timestamp_milliseconds)s, %(stream)s, %(reason)s, %(error)s, %(attempts)s, %(status)s)
    ON CONFLICT (consumer, topic, partition, "offset") DO UPDATE
    SET key = EXCLUDED.key, value = EXCLUDED.value, headers = EXCLUDED.headers,
        timestamp_milliseconds = EXCLUDED.timestamp_milliseconds, stream = EXCLUDED.stream,
        reason = EXCLUDED.reason, error = EXCLUDED.error,
        attempts = EXCLUDED.attempts
                 + CASE WHEN letter.status = 'applied' THEN letter.attempts ELSE 0 END,
        status = EXCLUDED.status, closed_at = NULL
    WHERE letter.status = 'applied'
       OR (letter.status = 'discarded' AND letter.value IS DISTINCT FROM EXCLUDED.value)
    RETURNING id
)
SELECT id FROM written
UNION ALL
SELECT id FROM outbox.dead_letters
WHERE (consumer, topic, partition, "offset")
    = (%(consumer)s::text, %(topic)s::text, %(partition)s::integer, %(offset)s::bigint)
  AND NOT EXISTS (SELECT FROM written)

-- name: parked
SELECT DISTINCT stream FROM outbox.open_letters
WHERE consumer = %(consumer)s AND stream IS NOT NULL

-- name: due
-- It finds the first open letter of each parked key, with one step in the index a key. Then it
-- takes, of keys whose first letter is not dead, the letters up to the next dead one, and the
-- letters without a key, which wait for no other.
-- Nothing is locked, and that is safe: only the member that reads a partition redelivers its
-- letters, and settling a letter compares its status, so that a member which lost the partition
-- without knowing it cannot undo what its successor did.
WITH RECURSIVE first AS (
    (SELECT stream, status, topic, partition FROM outbox.open_letters
     WHERE consumer = %(consumer)s AND stream IS NOT NULL
     ORDER BY stream, partition, "offset" LIMIT 1)
    UNION ALL
    SELECT following.* FROM first, LATERAL (
        SELECT stream, status, topic, partition FROM outbox.open_letters
        WHERE consumer = %(consumer)s AND stream > first.stream
        ORDER BY stream, partition, "offset" LIMIT 1) AS following
), mine AS (
    SELECT * FROM unnest(%(topics)s::text[], %(partitions)s::integer[]) AS own (topic, partition)
), ready AS (
    (SELECT stream FROM first JOIN mine USING (topic, partition)
     WHERE status <> 'dead' ORDER BY stream LIMIT %(messages)s)
), letters AS (
    SELECT letter.* FROM ready, LATERAL (
        SELECT *, bool_or(status = 'dead') OVER (ORDER BY partition, "offset") AS blocked
        FROM (SELECT * FROM outbox.open_letters
              WHERE consumer = %(consumer)s AND stream = ready.stream
              ORDER BY partition, "offset" LIMIT %(messages)s) AS next) AS letter
    UNION ALL
    (SELECT letter.*, false FROM outbox.dead_letters AS letter JOIN mine USING (topic, partition)
     WHERE consumer = %(consumer)s AND stream IS NULL AND status = 'retrying'
     ORDER BY "offset" LIMIT %(messages)s)
), bounded AS (
    SELECT *, sum(coalesce(length(value), 0)) OVER (ORDER BY topic, partition, "offset") AS bytes
    FROM letters WHERE NOT blocked
)
SELECT id, stream, topic, partition, "offset", key, value, headers, timestamp_milliseconds
FROM bounded WHERE bytes - coalesce(length(value), 0) < %(bytes)s
ORDER BY topic, partition, "offset" LIMIT %(messages)s

-- name: first
-- It takes one step in the index. The value of a dead letter is not read.
SELECT id, stream, topic, partition, "offset", key, CASE WHEN status <> 'dead' THEN value END,
       headers, timestamp_milliseconds, status
FROM outbox.open_letters
WHERE consumer = %(consumer)s AND stream = %(stream)s
ORDER BY partition, "offset" LIMIT 1

-- name: applied
-- Only a letter that is being redelivered may change, so of two members that redeliver it the first
-- one counts. Only the caller opens letters of the key; one that an operator closes at this moment
-- still counts as open.
WITH applied AS (
    UPDATE outbox.dead_letters SET status = 'applied', closed_at = now()
    WHERE id = %(id)s AND status IN ('retrying', 'waiting') RETURNING id
)
SELECT NOT EXISTS (SELECT FROM outbox.open_letters
                   WHERE consumer = %(consumer)s AND stream = %(stream)s
                     AND id NOT IN (SELECT id FROM applied))

-- name: failed
UPDATE outbox.dead_letters
SET status = 'dead', reason = %(reason)s, error = %(error)s, attempts = attempts + %(attempts)s
WHERE id = %(id)s AND status IN ('retrying', 'waiting')
