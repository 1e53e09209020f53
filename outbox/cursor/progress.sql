-- The one statement that moves the relay's progress on.

-- name: advance
-- The term guards the update, so a relay that was replaced moves nothing. The delivery rows are
-- inserted only where the progress moved. The statement extends the lease, too, so a busy relay never
-- needs a statement for that alone.
WITH moved AS (
    UPDATE outbox.relay
    SET cursor = %(cursor)s::pg_snapshot, upto = %(upto)s::pg_snapshot, position = %(position)s,
        published = published + %(messages)s,
        highest_position = greatest(highest_position, %(position)s),
        expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
    WHERE {held}
    RETURNING term, ctid::text AS place
), delivered AS (
    INSERT INTO outbox.deliveries
        (term, topic, partition, first_offset, last_offset, first_position, last_position, messages)
    SELECT moved.term, batch.*
    FROM moved, unnest(%(topics)s::text[], %(partitions)s::integer[], %(first_offsets)s::bigint[],
                       %(last_offsets)s::bigint[], %(first_positions)s::bigint[],
                       %(last_positions)s::bigint[], %(counts)s::integer[]) AS batch
)
SELECT place FROM moved
