-- Replays as rows of outbox.replays; requests.py says which changes there are.

-- name: columns
id, status, consumer, aggregates, keys, types, topics, since, before, first_position,
last_position, position, messages_per_second, selected, sent, refused, operator, reason,
created_at, ended_at, term, CASE WHEN expires_at > clock_timestamp() THEN owner END AS owner

-- name: list
SELECT {columns} FROM outbox.replays
WHERE (%(id)s::bigint IS NULL OR id = %(id)s) ORDER BY id DESC LIMIT %(limit)s

-- name: start
INSERT INTO outbox.replays
    (consumer, aggregates, keys, types, topics, since, before, first_position, last_position,
     position, messages_per_second, selected, operator, reason)
VALUES (%(consumer)s, %(aggregates)s, %(keys)s, %(types)s, %(topics)s, %(since)s, %(before)s,
        %(first_position)s, %(last_position)s, %(first_position)s - 1, %(rate)s, %(selected)s,
        %(operator)s, %(reason)s)
RETURNING {columns}

-- name: change
-- The row lock makes two operators, and the process that replays, take turns.
UPDATE outbox.replays
SET status = %(to)s,
    messages_per_second = coalesce(%(rate)s, messages_per_second),
    ended_at = CASE WHEN %(to)s = 'cancelled' THEN clock_timestamp() END
WHERE id = %(id)s AND status = ANY (%(of)s)
RETURNING {columns}
