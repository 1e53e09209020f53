-- The messages, which the relay publishes. PostgreSQL 14 to 18.

-- One step is a thousand: a unit of work draws one value a key while that key's head is locked,
-- and numbers the messages of the key upwards from it. So positions are unique, and those of one
-- key rise in commit order (up to 1,000 messages of one key in one unit of work).
CREATE SEQUENCE outbox.positions AS bigint START 1000 INCREMENT 1000 CACHE 1;

-- What could not be published must not commit, because one such row would hold all others of its key
-- back. The limits are those of schemas/limits.py. They are domains rather than table constraints,
-- which PostgreSQL reads anew at every statement: they cost as much as all the rest of the insert.
-- A counted repetition in a pattern ({1,249}) costs as much again.
CREATE DOMAIN outbox.name AS text
    CONSTRAINT has_1_to_255_characters CHECK (length(VALUE) BETWEEN 1 AND 255)
    CONSTRAINT has_no_control_character
        CHECK (VALUE !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]');
CREATE DOMAIN outbox.key AS text
    CONSTRAINT has_1_to_255_characters CHECK (length(VALUE) BETWEEN 1 AND 255)
    CONSTRAINT has_no_control_character
        CHECK (VALUE !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]');
CREATE DOMAIN outbox.topic AS text
    CONSTRAINT has_1_to_249_characters CHECK (length(VALUE) BETWEEN 1 AND 249)
    CONSTRAINT is_a_name_that_kafka_takes CHECK (VALUE !~ '[^a-zA-Z0-9._-]')
    CONSTRAINT is_not_a_folder CHECK (VALUE NOT IN ('.', '..'));
CREATE DOMAIN outbox.payload AS text
    CONSTRAINT has_at_most_900000_bytes CHECK (octet_length(VALUE) <= 900000);
CREATE DOMAIN outbox.headers AS jsonb
    CONSTRAINT has_at_most_8192_bytes CHECK (octet_length(VALUE::text) <= 8192);

-- Rows are inserted, and never updated or moved. Column names are those of Debezium's outbox event
-- router where it has them.
CREATE TABLE outbox.messages (
    position       bigint      NOT NULL,
    transaction_id xid8        NOT NULL DEFAULT pg_current_xact_id(),
    id             uuid        NOT NULL,
    aggregatetype  outbox.name    NOT NULL,
    aggregateid    outbox.key     NOT NULL,
    type           outbox.name    NOT NULL,
    version        bigint      NOT NULL,
    topic          outbox.topic   NOT NULL,
    payload        outbox.payload,
    headers        outbox.headers NOT NULL DEFAULT '{}',
    created_at     timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (created_at);

-- What a cut looks for: transactions that the last snapshot did not show, in position order.
CREATE INDEX messages_by_transaction ON outbox.messages (transaction_id, position);
-- What the pages of a large cut follow, and how a head finds its latest message.
CREATE INDEX messages_by_position ON outbox.messages (position);

-- It takes a message whose daily partition is missing, so that no commit ever fails for that. It is
-- empty when all is well.
CREATE TABLE outbox.messages_default PARTITION OF outbox.messages DEFAULT;

-- Where somebody publishes the deletes and updates of all tables, PostgreSQL refuses them at a table
-- without a replica identity. Messages have no primary key, because it would cost each insert an
-- index. So the whole row is their identity, which is written to the log only where a row is deleted
-- (a row of the default partition) or renumbered (a repair).
ALTER TABLE outbox.messages REPLICA IDENTITY FULL;
ALTER TABLE outbox.messages_default REPLICA IDENTITY FULL;

-- The ids that callers of outbox.publish have given, so that none is given twice. An id that was
-- generated is not here: it has 122 random bits. Retention deletes these rows together with the
-- daily partitions.
CREATE TABLE outbox.message_ids (
    id         uuid        PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX message_ids_by_time ON outbox.message_ids (created_at);
