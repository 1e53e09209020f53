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

-- Whether the relay has published a message: its cursor shows the message, or a large cut does that is
-- being sent in order of position, and has come that far (`sent` is the row's column `position`). What
-- is parked or discarded counts as published, since the relay has passed it. PostgreSQL puts the body
-- in place of the call, so an index serves as before.
CREATE FUNCTION outbox.is_published(
    transaction_id xid8, message_position bigint, cursor pg_snapshot, upto pg_snapshot, sent bigint
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN pg_visible_in_snapshot(transaction_id, cursor)
    OR (upto IS NOT NULL AND message_position <= sent
        AND pg_visible_in_snapshot(transaction_id, upto));

-- Whether `taker` may take a lease: it is free, it has run out, or it is the taker's own from before a
-- reconnect. It may also be taken where it ends later than any lease that could have begun by this
-- clock: the clock was then set back, perhaps by an hour, and nobody would work for as long. (The
-- condition allows twice the length, so that small steps of the clock, and processes with different
-- settings, change nothing.) If the former owner is still alive, its term ends at its next statement.
-- The statement that takes a lease locks its row: of two takers the second one waits, and then finds
-- the condition false.
CREATE FUNCTION outbox.may_take_lease(
    owner text, expires_at timestamptz, taker text, seconds double precision
) RETURNS boolean LANGUAGE sql VOLATILE
RETURN owner IS NULL OR owner = taker
    OR NOT expires_at BETWEEN clock_timestamp()
                          AND clock_timestamp() + make_interval(secs => 2 * seconds);

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
