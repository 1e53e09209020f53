-- What an operator does about dead letters; {selected} are the letters of a selection.

-- name: retry
UPDATE outbox.open_letters AS letter SET status = 'retrying'
WHERE letter.status = 'dead' AND {selected}
RETURNING letter.id

-- name: discard
UPDATE outbox.open_letters AS letter SET status = 'discarded', closed_at = now()
WHERE letter.status = 'dead' AND {selected}
RETURNING letter.id

-- name: preview
-- A waiting letter is redelivered only if no dead letter is left before it, so this counts the most
-- that can be redelivered.
WITH touched AS (
    SELECT letter.id, letter.consumer, letter.stream, letter.partition, letter."offset"
    FROM outbox.open_letters AS letter
    WHERE letter.status = 'dead' AND {selected}
)
SELECT (SELECT count(*) FROM touched), (
    SELECT count(*) FROM outbox.open_letters AS waiting
    WHERE waiting.status = 'waiting' AND EXISTS (
        SELECT FROM touched
        WHERE touched.consumer = waiting.consumer AND touched.stream = waiting.stream
          AND (touched.partition, touched."offset") < (waiting.partition, waiting."offset")))

-- name: prune_count
SELECT count(*) FROM outbox.dead_letters
WHERE closed_at < now() - make_interval(days => %s)

-- name: prune
DELETE FROM outbox.dead_letters WHERE closed_at < now() - make_interval(days => %s)
