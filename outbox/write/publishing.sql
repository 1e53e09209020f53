-- What a unit of work inserts: each message, and the head of its key.

-- name: publish_one
WITH head AS (
    INSERT INTO outbox.streams AS head
        (aggregatetype, aggregateid, version, position, digest, deleted)
    SELECT %(aggregatetype)b, %(key)b, 1, nextval('outbox.positions'), %(digest)b, %(deletes)b
    WHERE set_config('synchronous_commit', 'on', true) = 'on'
    ON CONFLICT (aggregatetype, aggregateid) DO UPDATE SET
        version  = head.version + 1,
        position = nextval('outbox.positions'),
        digest   = EXCLUDED.digest,
        deleted  = EXCLUDED.deleted
    RETURNING version, position
)
INSERT INTO outbox.messages
    (position, id, aggregatetype, aggregateid, type, version, topic, payload, headers)
SELECT position, %(id)b, %(aggregatetype)b, %(key)b, %(type)b, version, %(topic)b, %(payload)b,
       %(headers)b::jsonb
FROM head
RETURNING aggregatetype, aggregateid, version, position

-- name: publish_several
-- A key has `steps` messages, numbered by `step` from 1; the last one of a key writes its head.
WITH given AS (
    SELECT *
    FROM unnest(%(ids)b::uuid[], %(aggregatetypes)b::text[], %(keys)b::text[], %(types)b::text[],
                %(topics)b::text[], %(payloads)b::text[], %(digests)b::text[],
                %(deletes)b::boolean[], %(steps)b::integer[], %(lasts)b::integer[])
         AS message (id, aggregatetype, aggregateid, type, topic, payload, digest, deletes,
                     step, steps)
), heads AS (
    INSERT INTO outbox.streams AS head
        (aggregatetype, aggregateid, version, position, digest, deleted)
    SELECT aggregatetype, aggregateid, steps, nextval('outbox.positions') + steps - 1,
           digest, deletes
    FROM given, set_config('synchronous_commit', 'on', true) AS durable
    WHERE step = steps AND durable = 'on'
    ORDER BY aggregatetype COLLATE "C", aggregateid COLLATE "C"
    ON CONFLICT (aggregatetype, aggregateid) DO UPDATE SET
        version  = head.version + EXCLUDED.version,
        position = nextval('outbox.positions') + EXCLUDED.version - 1,
        digest   = EXCLUDED.digest,
        deleted  = EXCLUDED.deleted
    RETURNING aggregatetype, aggregateid, version, position
), inserted AS (
    INSERT INTO outbox.messages
        (position, id, aggregatetype, aggregateid, type, version, topic, payload, headers)
    SELECT position - steps + step, id, aggregatetype, aggregateid, type, version - steps + step,
           topic, payload, %(headers)b::jsonb
    FROM given JOIN heads USING (aggregatetype, aggregateid)
)
SELECT aggregatetype, aggregateid, version, position FROM heads
