-- What retention keeps of the daily partitions that it drops: the latest message of every key, deleted
-- keys too, whose last event repairs a missing tombstone. A row that is no longer its key's latest is
-- deleted.

CREATE TABLE outbox.compacted (
    aggregatetype text        COLLATE "C" NOT NULL,
    aggregateid   text        COLLATE "C" NOT NULL,
    position      bigint      NOT NULL,
    id            uuid        NOT NULL,
    type          text        NOT NULL,
    version       bigint      NOT NULL,
    topic         text        NOT NULL,
    payload       text,
    headers       jsonb       NOT NULL,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (aggregatetype, aggregateid)
);

-- A replay reads these rows in the order of positions, beside the messages.
CREATE INDEX compacted_by_position ON outbox.compacted (position);

-- The latest message of every key: one row a head. It is found by the head's position, so a row of
-- outbox.compacted that is not the latest is never shown. Where both tables have the message, it is the
-- same. A head whose message is nowhere has a row without an id, rather than none.
CREATE VIEW outbox.latest AS
SELECT head.aggregatetype, head.aggregateid, head.version, head.position, head.digest, head.deleted,
       coalesce(message.id, compacted.id) AS id,
       coalesce(message.type, compacted.type) AS type,
       coalesce(message.topic, compacted.topic) AS topic,
       coalesce(message.payload, compacted.payload) AS payload,
       coalesce(message.headers, compacted.headers) AS headers,
       coalesce(message.created_at, compacted.created_at) AS created_at
FROM outbox.streams AS head
LEFT JOIN outbox.messages AS message
       ON message.position = head.position AND message.version = head.version
      AND message.aggregatetype = head.aggregatetype AND message.aggregateid = head.aggregateid
LEFT JOIN outbox.compacted AS compacted
       ON compacted.position = head.position AND compacted.version = head.version
      AND compacted.aggregatetype = head.aggregatetype AND compacted.aggregateid = head.aggregateid;

COMMENT ON VIEW outbox.latest IS
    'The latest message of every key. Read it at READ COMMITTED: a dropped partition is gone for every '
    'snapshot, also for one that is older than the compacted row of it.';
