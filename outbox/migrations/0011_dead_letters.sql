-- What a consumer could not apply, with its original bytes, and what waits behind it. A letter is open
-- (dead, waiting, retrying) until it is closed (applied, discarded); a closed one stays as history
-- until an operator prunes it.
--
--   dead      --retry-->  retrying  --redelivered-->  applied
--   waiting   --redelivered, once no dead letter of its key is before it-->  applied
--   retrying, waiting  --failed again-->  dead
--   dead      --discard-->  discarded
--   applied   --delivered again, and failed or must wait-->  dead, waiting

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
    status     text        NOT NULL
               CHECK (status IN ('dead', 'waiting', 'retrying', 'applied', 'discarded')),
    created_at timestamptz NOT NULL DEFAULT now(),
    closed_at  timestamptz,
    -- When Kafka had it; -1 where nobody wrote it down.
    timestamp_milliseconds bigint NOT NULL DEFAULT -1,
    CONSTRAINT dead_letters_closed_check
        CHECK ((closed_at IS NOT NULL) = (status IN ('applied', 'discarded'))),
    UNIQUE (consumer, topic, partition, "offset")
);

-- The open letters. The indexes dead_letters_open and dead_letters_list have the same condition, so a
-- query of this view can use them.
CREATE VIEW outbox.open_letters AS
    SELECT * FROM outbox.dead_letters WHERE status IN ('dead', 'waiting', 'retrying');

-- Finds the first open letter of a key, and what waits behind it.
CREATE INDEX dead_letters_open ON outbox.dead_letters (consumer, stream, partition, "offset")
    WHERE status IN ('dead', 'waiting', 'retrying');
-- Finds the letters without a key that an operator has asked to retry.
CREATE INDEX dead_letters_retrying ON outbox.dead_letters (consumer) WHERE status = 'retrying';
-- Lists the open letters, oldest first, however long the history is.
CREATE INDEX dead_letters_list ON outbox.dead_letters (id)
    WHERE status IN ('dead', 'waiting', 'retrying');
-- Finds the letters that an operator prunes.
CREATE INDEX dead_letters_closed ON outbox.dead_letters (closed_at) WHERE closed_at IS NOT NULL;
