-- Reconcile: makes the relay's cursor true for this database; reconcile.py explains the remedies.

-- name: lock
-- Writers wait from here to the end. The tables are locked in the order in which writers lock them
-- themselves, so there is no deadlock. Meanwhile no row comes or goes, no number is drawn and no
-- head is locked: each of the statements below sees all rows that there are.
LOCK TABLE outbox.streams, outbox.messages, outbox.deliveries, outbox.dead_letters,
           outbox.operations IN SHARE ROW EXCLUSIVE MODE

-- name: lock_timeout
-- Waiting for these locks has a limit. The commit that ends them does not wait for a standby either.
SELECT set_config('lock_timeout', %s, true), set_config('synchronous_commit', 'local', true)

-- name: lock_relay
-- The lock on this row keeps every relay from taking the lease until the repair is committed.
SELECT coalesce(expires_at > clock_timestamp(), false) FROM outbox.relay WHERE name = 'main'
FOR UPDATE

-- name: drawn_again
-- Whether writers here drew positions that had been drawn before. Either the sequence is behind, and
-- not new. Or an operator has set it since, but messages that were written here have positions among
-- those of the dump, or the order of a key shows it. A message was written here if the hidden xmin
-- of all rows of its transaction is the id that they name. (A restored table is one transaction with
-- many such ids.)
SELECT (SELECT is_called AND last_value + 1000 <= highest FROM outbox.positions)
    OR EXISTS (SELECT FROM outbox.messages GROUP BY xmin
               HAVING min(position) <= relay.highest_position
                  AND bool_and(xmin::text::bigint = transaction_id::text::numeric % 4294967296))
    OR EXISTS (SELECT FROM (
           SELECT position - lag(position) OVER (PARTITION BY aggregatetype, aggregateid
                                                 ORDER BY version) AS step
           FROM outbox.messages) AS message WHERE step <= 0)
FROM outbox.relay,
     LATERAL (SELECT greatest(relay.highest_position, max(position)) AS highest
              FROM outbox.messages) AS held
WHERE relay.name = 'main'

-- name: published
-- What the relay had published in the history that the dump comes from. A message that was written here
-- may by accident have an id that the cursor shows, too. But its position was drawn after those of
-- the dump, so it is above all positions that the relay had ever passed.
(message.position <= relay.highest_position
 AND outbox.is_published(message.transaction_id, message.position, relay.cursor, relay.upto,
                         relay.position))

-- name: count
SELECT count(*) FILTER (WHERE {published}), count(*) FILTER (WHERE NOT {published})
FROM outbox.messages AS message, outbox.relay WHERE relay.name = 'main'

-- name: renumber
-- '3' is the first normal transaction id: every snapshot shows it, so no cut will ever hold these
-- rows. This transaction took its own id after the new cursor was read, so the cursor does not show
-- it, and the next cut does. Published rows whose id the cursor shows anyway stay as they are.
UPDATE outbox.messages AS message
SET transaction_id = CASE WHEN {published} THEN '3'::xid8 ELSE pg_current_xact_id() END
FROM outbox.relay
WHERE relay.name = 'main'
  AND NOT ({published}
           AND pg_visible_in_snapshot(message.transaction_id, %(cursor)s::pg_snapshot))

-- name: replace
-- A version was drawn while the head was locked, so the versions give the true order of a key.
-- `reached` is a position that rises with the versions, and otherwise keeps the old order of keys.
WITH ordered AS (
    SELECT tableoid, ctid, aggregatetype, aggregateid, version,
           max(position) OVER (PARTITION BY aggregatetype, aggregateid ORDER BY version) AS reached
    FROM outbox.messages
), placed AS (
    SELECT *, %(base)s + row_number() OVER (ORDER BY reached, aggregatetype, aggregateid, version)
              AS place
    FROM ordered
), moved AS (
    UPDATE outbox.messages AS message
    SET position = placed.place, transaction_id = pg_current_xact_id()
    FROM placed WHERE message.tableoid = placed.tableoid AND message.ctid = placed.ctid
)
UPDATE outbox.streams AS head SET position = placed.place
FROM placed
WHERE (head.aggregatetype, head.aggregateid, head.version)
    = (placed.aggregatetype, placed.aggregateid, placed.version)

-- name: unpark
-- All messages are sent again, so what Kafka refuses will be parked again. The positions of what was
-- discarded now belong to other messages.
DELETE FROM outbox.parked_messages; DELETE FROM outbox.parked; DELETE FROM outbox.discarded_messages

-- name: base
-- A multiple of the step of the sequence (1000) that is above all positions there are.
SELECT (greatest(highest_position, (SELECT max(position) FROM outbox.messages)) / 1000 + 1) * 1000
FROM outbox.relay WHERE name = 'main'

-- name: set_positions
-- A restore of data alone may leave sequences behind; none is ever set back. Everybody who draws
-- from them waits for the lock on a table, so nothing is drawn in between.
SELECT setval('outbox.positions', %(next)s::bigint, false) FROM outbox.positions
WHERE last_value < %(next)s::bigint

-- name: set_ids
SELECT setval(sequence, highest) FROM (
    SELECT pg_get_serial_sequence('outbox.deliveries', 'id') AS sequence, max(id) AS highest
    FROM outbox.deliveries
    UNION ALL
    SELECT pg_get_serial_sequence('outbox.dead_letters', 'id'), max(id) FROM outbox.dead_letters
    UNION ALL
    SELECT pg_get_serial_sequence('outbox.operations', 'id'), max(id) FROM outbox.operations
) AS numbered
WHERE highest > coalesce(pg_sequence_last_value(sequence), 0)

-- name: restart
-- The higher term fences off a relay that led before.
UPDATE outbox.relay
SET cursor = coalesce(%(cursor)s::pg_snapshot, cursor),
    upto = CASE WHEN %(cursor)s::text IS NULL THEN upto END,
    position = CASE WHEN %(cursor)s::text IS NULL THEN position ELSE 0 END,
    term = term + 1, owner = NULL, expires_at = NULL
WHERE name = 'main'
