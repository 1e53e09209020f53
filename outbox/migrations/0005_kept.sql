-- What retention keeps of the days that it drops: the latest message of every key, deleted ones too,
-- whose last event repairs a missing tombstone. A row that is no longer its key's latest is forgotten.
CREATE TABLE outbox.kept (
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

-- The latest message of every key: one row a head. It is found by the head's position, so a row of
-- outbox.kept that is not the latest is never shown; where both have it, they have the same message.
-- A head whose message is nowhere has a row without an id, rather than none.
CREATE VIEW outbox.latest AS
SELECT head.aggregatetype, head.aggregateid, head.version, head.position, head.digest, head.deleted,
       coalesce(message.id, kept.id) AS id,
       coalesce(message.type, kept.type) AS type,
       coalesce(message.topic, kept.topic) AS topic,
       coalesce(message.payload, kept.payload) AS payload,
       coalesce(message.headers, kept.headers) AS headers,
       coalesce(message.created_at, kept.created_at) AS created_at
FROM outbox.streams AS head
LEFT JOIN outbox.messages AS message
       ON message.position = head.position AND message.version = head.version
      AND message.aggregatetype = head.aggregatetype AND message.aggregateid = head.aggregateid
LEFT JOIN outbox.kept AS kept
       ON kept.position = head.position AND kept.version = head.version
      AND kept.aggregatetype = head.aggregatetype AND kept.aggregateid = head.aggregateid;

COMMENT ON VIEW outbox.latest IS
    'The latest message of every key. Read it at READ COMMITTED: a dropped day is gone for every '
    'snapshot, also for one that is older than the row which was kept of it.';
