-- The relay's one row: its lease, and how far it is. The cursor is a snapshot, not a number.
CREATE TABLE outbox.relay (
    name       text        PRIMARY KEY,
    cursor     pg_snapshot NOT NULL,
    upto       pg_snapshot,                 -- the large cut being sent, if there is one
    position   bigint      NOT NULL DEFAULT 0,  -- the last acknowledged one in that cut
    published  bigint      NOT NULL DEFAULT 0,
    term       bigint      NOT NULL DEFAULT 0,
    owner      text,
    expires_at timestamptz,
    -- The highest position that the relay ever passed. Messages of this history that the cursor shows
    -- are at or below it; what was written after a restore is above it, whatever its transaction id.
    highest_position bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);  -- one hot row: its old versions are pruned within the page

-- '3:3:' is before every normal transaction: a new relay publishes all there is.
INSERT INTO outbox.relay (name, cursor) VALUES ('main', '3:3:');

-- One row for each acknowledged batch, so that an auditor can compare PostgreSQL with Kafka.
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

-- How many partitions a topic had when the relay first published to it. Which partition a key goes
-- to follows from this number, not from what Kafka says today: more partitions later would send a
-- key's next version past the one before it.
CREATE TABLE outbox.topics (
    topic       text        PRIMARY KEY,
    partitions  integer     NOT NULL CHECK (partitions > 0),
    recorded_at timestamptz NOT NULL DEFAULT now()
);
