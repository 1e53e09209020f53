-- The crossing's own tables. PostgreSQL 14 to 18.

-- One step is a thousand: a unit of work draws one value a key while that key's head is locked,
-- and numbers the messages of the key upwards from it. So positions are unique, and those of one
-- key rise in commit order (up to 1,000 messages of one key in one unit of work).
CREATE SEQUENCE outbox.positions AS bigint START 1000 INCREMENT 1000 CACHE 1;

-- What could not be published must not commit: one such row would hold all others of its key back.
-- Domains rather than table constraints, which PostgreSQL reads anew at every statement: they cost
-- as much as all the rest of the insert. So does a counted repetition in a pattern (…{1,249}).
CREATE DOMAIN outbox.name AS text
    CONSTRAINT has_1_to_255_characters CHECK (length(VALUE) BETWEEN 1 AND 255);
CREATE DOMAIN outbox.key AS text
    CONSTRAINT has_1_to_255_characters CHECK (length(VALUE) BETWEEN 1 AND 255)
    CONSTRAINT has_no_control_character
        CHECK (VALUE !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]');
CREATE DOMAIN outbox.topic AS text
    CONSTRAINT has_1_to_249_characters CHECK (length(VALUE) BETWEEN 1 AND 249)
    CONSTRAINT is_a_name_that_kafka_takes CHECK (VALUE !~ '[^a-zA-Z0-9._-]');
CREATE DOMAIN outbox.payload AS text
    CONSTRAINT has_at_most_900000_bytes CHECK (octet_length(VALUE) <= 900000);
CREATE DOMAIN outbox.headers AS jsonb
    CONSTRAINT has_at_most_8192_bytes CHECK (octet_length(VALUE::text) <= 8192);

-- INSERT-only. Column names are those of Debezium's outbox event router where it has them.
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

-- A safety net, so that no commit ever fails for a missing day. It is empty when all is well.
CREATE TABLE outbox.messages_default PARTITION OF outbox.messages DEFAULT;

-- The heads: every key there is, its version, and where its latest message stands.
CREATE TABLE outbox.streams (
    aggregatetype text    COLLATE "C" NOT NULL,
    aggregateid   text    COLLATE "C" NOT NULL,
    version       bigint  NOT NULL,
    position      bigint  NOT NULL,
    digest        text    NOT NULL,
    deleted       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (aggregatetype, aggregateid)
) WITH (fillfactor = 70);  -- room for the next version on the same page: updates stay HOT

-- A consumer has handled this message; the reply is what a second delivery is told.
CREATE TABLE outbox.receipts (
    consumer   text        NOT NULL,
    message_id text        NOT NULL,
    digest     text        NOT NULL,
    reply      jsonb,
    handled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, message_id)
) WITH (fillfactor = 80);  -- the reply is set by an update in the same transaction

-- The relay's one row: its lease, and how far it is. The cursor is a snapshot, not a number.
CREATE TABLE outbox.relay (
    name       text        PRIMARY KEY,
    cursor     pg_snapshot NOT NULL,
    upto       pg_snapshot,                 -- the large cut being sent, if there is one
    position   bigint      NOT NULL DEFAULT 0,  -- the last acknowledged one in that cut
    published  bigint      NOT NULL DEFAULT 0,
    term       bigint      NOT NULL DEFAULT 0,
    owner      text,
    expires_at timestamptz
) WITH (fillfactor = 10);  -- one hot row: its old versions are pruned within the page

-- '3:3:' is before every normal transaction: a new relay publishes all there is.
INSERT INTO outbox.relay (name, cursor) VALUES ('main', '3:3:');

-- One row an acknowledged batch, so that an auditor can compare PostgreSQL with Kafka.
CREATE TABLE outbox.deliveries (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    term           bigint      NOT NULL,
    topic          text        NOT NULL,
    partition      integer     NOT NULL,
    first_offset   bigint      NOT NULL,
    last_offset    bigint      NOT NULL,
    first_position bigint      NOT NULL,
    last_position  bigint      NOT NULL,
    messages       integer     NOT NULL,
    delivered_at   timestamptz NOT NULL DEFAULT now()
);

-- What a consumer could not apply, with its original bytes, and what waits behind it.
CREATE TABLE outbox.dead_letters (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer   text        NOT NULL,
    topic      text        NOT NULL,
    partition  integer     NOT NULL,
    "offset"   bigint      NOT NULL,
    key        bytea,
    value      bytea,
    headers    jsonb       NOT NULL,        -- [[name, base64 of the bytes], ...]
    stream     text,                        -- the parked key, where the message had one
    reason     text        NOT NULL,
    error      text        NOT NULL,
    attempts   integer     NOT NULL,
    status     text        NOT NULL CHECK (status IN ('dead', 'waiting', 'retried', 'discarded')),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (consumer, topic, partition, "offset")
);
CREATE INDEX dead_letters_parked ON outbox.dead_letters (consumer, stream)
    WHERE status IN ('dead', 'waiting');
