"""The statements of a consumer about its dead letters; `dead_letters.py` says what they promise."""

OPEN = "status IN ('dead', 'waiting', 'retrying')"  # as the partial indexes say it

COLUMNS = """
    (consumer, topic, partition, "offset", key, value, headers, timestamp_milliseconds, stream,
     reason, error, attempts, status)
"""
VALUES = """
    %(consumer)s, %(topic)s, %(partition)s, %(offset)s, %(key)s, %(value)s, %(headers)s::jsonb,
    %(timestamp_milliseconds)s, %(stream)s, %(reason)s, %(error)s, %(attempts)s, %(status)s
"""
# A message that is delivered again finds its letter there. An open one stays as it is; so does a
# discarded one, which a person gave up. One that was applied is opened again: this time it failed.
# Another message at the same offset is of a topic that was made anew; only history gives way to it.
AGAIN = """
ON CONFLICT (consumer, topic, partition, "offset") DO UPDATE
SET key = EXCLUDED.key, value = EXCLUDED.value, headers = EXCLUDED.headers,
    timestamp_milliseconds = EXCLUDED.timestamp_milliseconds, stream = EXCLUDED.stream,
    reason = EXCLUDED.reason, error = EXCLUDED.error,
    attempts = EXCLUDED.attempts
             + CASE WHEN letter.status = 'applied' THEN letter.attempts ELSE 0 END,
    status = EXCLUDED.status, closed_at = NULL
WHERE letter.status = 'applied'
   OR (letter.status = 'discarded' AND letter.value IS DISTINCT FROM EXCLUDED.value)
"""
# The number of the letter, also of one that stays as it is.
WRITE = f"""
WITH written AS (
    INSERT INTO outbox.dead_letters AS letter {COLUMNS} VALUES ({VALUES}) {AGAIN}
    RETURNING id
)
SELECT id FROM written
UNION ALL
SELECT id FROM outbox.dead_letters
WHERE (consumer, topic, partition, "offset")
    = (%(consumer)s::text, %(topic)s::text, %(partition)s::integer, %(offset)s::bigint)
  AND NOT EXISTS (SELECT FROM written)
"""  # noqa: S608 - constants
PARKED = f"""
SELECT DISTINCT stream FROM outbox.dead_letters
WHERE consumer = %(consumer)s AND stream IS NOT NULL AND {OPEN}
"""  # noqa: S608 - constants

# The first open letter of each parked key, one step in the index a key; then, of keys whose first
# is not dead, the letters up to the next dead one; and those without a key, which wait for nobody.
# Nothing is locked: who reads a partition redoes its letters, and settling one compares its status,
# so that a member which lost the partition without knowing cannot undo what its heir did.
DUE = f"""
WITH RECURSIVE first AS (
    (SELECT stream, status, topic, partition FROM outbox.dead_letters
     WHERE consumer = %(consumer)s AND stream IS NOT NULL AND {OPEN}
     ORDER BY stream, partition, "offset" LIMIT 1)
    UNION ALL
    SELECT following.* FROM first, LATERAL (
        SELECT stream, status, topic, partition FROM outbox.dead_letters
        WHERE consumer = %(consumer)s AND stream > first.stream AND {OPEN}
        ORDER BY stream, partition, "offset" LIMIT 1) AS following
), mine AS (
    SELECT * FROM unnest(%(topics)s::text[], %(partitions)s::integer[]) AS own (topic, partition)
), redoable AS (
    (SELECT stream FROM first JOIN mine USING (topic, partition)
     WHERE status <> 'dead' ORDER BY stream LIMIT %(messages)s)
), letters AS (
    SELECT letter.* FROM redoable, LATERAL (
        SELECT *, bool_or(status = 'dead') OVER (ORDER BY partition, "offset") AS blocked
        FROM (SELECT * FROM outbox.dead_letters
              WHERE consumer = %(consumer)s AND stream = redoable.stream AND {OPEN}
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
"""  # noqa: S608 - constants
# One step in the index. The bytes of a dead letter stay where they are.
FIRST = f"""
SELECT id, stream, topic, partition, "offset", key, CASE WHEN status <> 'dead' THEN value END,
       headers, timestamp_milliseconds, status
FROM outbox.dead_letters
WHERE consumer = %(consumer)s AND stream = %(stream)s AND {OPEN}
ORDER BY partition, "offset" LIMIT 1
"""  # noqa: S608 - constants
# Only what is being redone may change, so of two members that redo it the first one counts. Letters
# of the key are opened by the caller alone; one that a person closes meanwhile counts as open yet.
APPLIED = f"""
WITH applied AS (
    UPDATE outbox.dead_letters SET status = 'applied', closed_at = now()
    WHERE id = %(id)s AND status IN ('retrying', 'waiting') RETURNING id
)
SELECT NOT EXISTS (SELECT FROM outbox.dead_letters
                   WHERE consumer = %(consumer)s AND stream = %(stream)s AND {OPEN}
                     AND id NOT IN (SELECT id FROM applied))
"""  # noqa: S608 - constants
FAILED = """
UPDATE outbox.dead_letters
SET status = 'dead', reason = %(reason)s, error = %(error)s, attempts = attempts + %(attempts)s
WHERE id = %(id)s AND status IN ('retrying', 'waiting')
"""
