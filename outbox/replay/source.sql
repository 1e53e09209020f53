-- The messages that a replay publishes once more; source.py says which ones these are.

-- name: selected
message.position > %(behind)s AND message.position <= %(upto)s
    AND (%(aggregates)s::text[] IS NULL OR message.aggregatetype = ANY (%(aggregates)s))
    AND (%(keys)s::text[] IS NULL OR message.aggregateid = ANY (%(keys)s))
    AND (%(types)s::text[] IS NULL OR message.type = ANY (%(types)s))
    AND (%(topics)s::text[] IS NULL OR message.topic = ANY (%(topics)s))
    AND (%(since)s::timestamptz IS NULL OR message.created_at >= %(since)s)
    AND (%(before)s::timestamptz IS NULL OR message.created_at < %(before)s)
    AND NOT EXISTS (SELECT FROM outbox.discarded_messages AS discarded
                    WHERE discarded.position = message.position)

-- name: kept
-- Messages that outbox.messages still has.
SELECT message.position, topic, aggregateid, aggregatetype, id, type, version, payload, headers,
       created_at
FROM outbox.messages AS message JOIN outbox.relay ON relay.name = 'main'
WHERE {selected}
  AND outbox.is_published(message.transaction_id, message.position, relay.cursor, relay.upto,
                          relay.position)
  AND NOT EXISTS (SELECT FROM outbox.parked_messages AS waiting
                  WHERE waiting.aggregatetype = message.aggregatetype
                    AND waiting.aggregateid = message.aggregateid
                    AND waiting.position = message.position)

-- name: compacted
-- Messages whose daily partition was dropped: the latest of its key.
SELECT message.position, topic, aggregateid, aggregatetype, id, type, version, payload, headers,
       created_at
FROM outbox.compacted AS message
WHERE {selected}
  AND NOT EXISTS (SELECT FROM outbox.messages AS same WHERE same.position = message.position)

-- name: whole
-- It is one statement, so that all of it is true at one moment: the relay moves its cursor and parks
-- what was refused in one transaction, and `discard` changes both in one, too.
({kept})
UNION ALL
({compacted})

-- name: page
-- A page ends at the row that fills it, like a page of a cut. Each half is limited, so an index gives
-- its rows in order and no chunk is sorted.
SELECT {columns} FROM (
    SELECT *, sum(octet_length(coalesce(payload, ''))) OVER (ROWS UNBOUNDED PRECEDING) AS bytes
    FROM (
        ({kept} ORDER BY message.position LIMIT %(limit)s)
        UNION ALL
        ({compacted} ORDER BY message.position LIMIT %(limit)s)
        ORDER BY position LIMIT %(limit)s
    ) AS candidate
) AS message
WHERE bytes - octet_length(coalesce(payload, '')) < %(bytes)s

-- name: chunk_end
-- A chunk ends so many rows further on, whether they are selected or not.
SELECT position FROM (
    (SELECT position FROM outbox.messages
     WHERE position > %(behind)s AND position <= %(last)s ORDER BY position LIMIT %(rows)s)
    UNION ALL
    (SELECT position FROM outbox.compacted
     WHERE position > %(behind)s AND position <= %(last)s ORDER BY position LIMIT %(rows)s)
) AS row ORDER BY position OFFSET %(rows)s - 1 LIMIT 1

-- name: count
SELECT topic, type, count(*), min(created_at), max(created_at) FROM ({whole}) AS message
GROUP BY topic, type

-- name: keys
SELECT aggregatetype, aggregateid, max(version) FROM ({whole}) AS message
GROUP BY aggregatetype, aggregateid

-- name: passed
SELECT highest_position FROM outbox.relay WHERE name = 'main'
