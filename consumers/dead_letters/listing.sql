-- Dead letters as an operator lists them.

-- name: selected
(%(consumer)s::text IS NULL OR letter.consumer = %(consumer)s)
AND (%(topic)s::text IS NULL OR letter.topic = %(topic)s)
AND (%(key)s::text IS NULL OR letter.key = convert_to(%(key)s, 'UTF8'))
AND (%(letter_reason)s::text IS NULL OR letter.reason = %(letter_reason)s)
AND (%(ids)s::bigint[] IS NULL OR letter.id = ANY (%(ids)s))

-- name: fields
letter.id, letter.consumer, letter.topic, letter.partition, letter."offset", letter.stream,
letter.reason, letter.error, letter.attempts, letter.status, letter.created_at, letter.closed_at

-- name: list_open
-- The open ones have an index of their own, which a list of statuses as a parameter would not use.
SELECT {fields} FROM outbox.open_letters AS letter
WHERE letter.id > %(after)s AND {selected}
ORDER BY letter.id LIMIT %(limit)s

-- name: list
SELECT {fields} FROM outbox.dead_letters AS letter
WHERE letter.id > %(after)s AND {selected} AND letter.status = ANY (%(statuses)s)
ORDER BY letter.id LIMIT %(limit)s

-- name: show
SELECT {fields}, letter.key, letter.value, letter.headers, letter.timestamp_milliseconds
FROM outbox.dead_letters AS letter WHERE letter.id = %s

-- name: around
-- Before the letter is what must be closed first; behind it is what is redelivered after it.
WITH other AS (
    SELECT other.id, row_number() OVER (ORDER BY other.partition, other."offset") AS place,
           (other.partition, other."offset") < (letter.partition, letter."offset") AS earlier
    FROM outbox.dead_letters AS letter
    JOIN outbox.open_letters AS other ON other.consumer = letter.consumer
         AND other.stream = letter.stream AND other.id <> letter.id
    WHERE letter.id = %(id)s
)
SELECT count(*) FILTER (WHERE earlier) AS before_letters,
       count(*) FILTER (WHERE NOT earlier) AS behind_letters,
       coalesce(array_agg(id ORDER BY place) FILTER (WHERE earlier), '{}') AS before,
       coalesce((array_agg(id ORDER BY place) FILTER (WHERE NOT earlier))[1:%(limit)s], '{}')
           AS behind
FROM other

-- name: operations
SELECT operator, role, action, reason, recorded_at FROM outbox.operations
WHERE details -> 'letters' @> to_jsonb(%s::bigint) ORDER BY id

-- name: count
SELECT consumer, status, count(*) AS letters,
       extract(epoch FROM clock_timestamp() - min(created_at))::float8 AS oldest_age_seconds
FROM outbox.dead_letters GROUP BY consumer, status ORDER BY consumer, status
