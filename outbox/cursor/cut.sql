-- Cut: what one snapshot (`upto`) shows and an older one (the cursor) does not; cut.py says why.
-- `xmax` and `running` are the parts of the cursor.

-- name: columns
-- The fields of a Row, in order.
position, topic, aggregateid, aggregatetype, id::text, type, version, payload, headers::text,
to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')

-- name: candidates
-- The rows that the cursor does not show are in two disjoint index ranges, since a running transaction
-- is always below xmax. Of these, the cut has what `upto` shows. transaction_id is the id of the
-- top-level transaction, which is also what a snapshot is made of.
SELECT * FROM outbox.messages
WHERE transaction_id >= %(xmax)b::xid8
  AND pg_visible_in_snapshot(transaction_id, %(upto)b::pg_snapshot)
UNION ALL
SELECT * FROM outbox.messages
WHERE transaction_id = ANY (%(running)b::xid8[])
  AND pg_visible_in_snapshot(transaction_id, %(upto)b::pg_snapshot)

-- name: bounded
-- A page ends with the row that makes it full. PostgreSQL knows the length of a large payload without
-- reading it. The window is a running sum over the rows in the order in which they come.
SELECT {columns} FROM (
    SELECT *, sum(octet_length(coalesce(payload, ''))) OVER (ROWS UNBOUNDED PRECEDING) AS bytes
    FROM candidate
) AS message
WHERE bytes - octet_length(coalesce(payload, '')) < %(page_bytes)b::bigint

-- name: small
-- This is unordered on purpose: sorting a small cut in Python takes next to no time, and a large one
-- must not be sorted whole just for its first page.
WITH candidate AS (
    {candidates}
    LIMIT %(limit)b::bigint
)
{bounded}

-- name: page
-- The pages of a large cut follow the index on position from where the last one ended; rows of other
-- cuts on the way are skipped. No page sorts, and none is counted twice.
WITH candidate AS (
    SELECT * FROM outbox.messages
    WHERE position > %(after)b::bigint
      AND (transaction_id >= %(xmax)b::xid8 OR transaction_id = ANY (%(running)b::xid8[]))
      AND pg_visible_in_snapshot(transaction_id, %(upto)b::pg_snapshot)
    ORDER BY position LIMIT %(limit)b::bigint
)
{bounded}

-- name: measure
SELECT count(*), min(position) FROM ({candidates}) AS cut

-- name: plans
-- The statistics of a table that fills in seconds are always stale. Each of the relay's three
-- statements has one right plan, so the planner gets no other choice. It also plans only once: over
-- retained rows it would estimate that a plan for the values at hand is cheaper, and planning costs
-- more than the poll itself. With `local` it holds until the end of the transaction.
SELECT set_config(name, value, %(local)s)
FROM (VALUES ('enable_seqscan', 'off'), ('enable_sort', 'off'), ('enable_bitmapscan', 'off'),
             ('jit', 'off'), ('plan_cache_mode', 'force_generic_plan')) AS setting (name, value)
