-- What Kafka refuses for good waits here, by key.

-- A parked key: one message of it was refused, and its later ones wait behind that one.
CREATE TABLE outbox.parked (
    aggregatetype text        NOT NULL,
    aggregateid   text        NOT NULL,
    topic         text        NOT NULL,
    position      bigint      NOT NULL,  -- of the refused message
    reason        text        NOT NULL,
    attempts      integer     NOT NULL DEFAULT 1,
    released      boolean     NOT NULL DEFAULT false,  -- by an operator; the relay tries again
    parked_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (aggregatetype, aggregateid)
);

-- The messages of parked keys that the relay has passed: the refused one, and those behind it.
CREATE TABLE outbox.parked_messages (
    aggregatetype text   NOT NULL,
    aggregateid   text   NOT NULL,
    position      bigint NOT NULL,
    PRIMARY KEY (aggregatetype, aggregateid, position)
);

-- The messages that an operator discarded: the relay has passed them, and they are never published,
-- by no replay either. A row stays when its message's daily partition is dropped: the message may be
-- the last one of its key, which is kept.
CREATE TABLE outbox.discarded_messages (
    position     bigint      PRIMARY KEY,
    discarded_at timestamptz NOT NULL DEFAULT now()
);
