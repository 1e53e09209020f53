-- What Kafka refuses for good waits here by key, and what people do about it is written down.

-- How many partitions a topic had when the relay first published to it. Which partition a key goes
-- to follows from this number, not from what Kafka says today: more partitions later would send a
-- key's next version past the one before it.
CREATE TABLE outbox.topics (
    topic       text        PRIMARY KEY,
    partitions  integer     NOT NULL CHECK (partitions > 0),
    recorded_at timestamptz NOT NULL DEFAULT now()
);

-- A parked key: one message of it was refused, and its later ones wait behind that one.
CREATE TABLE outbox.parked (
    aggregatetype text        NOT NULL,
    aggregateid   text        NOT NULL,
    topic         text        NOT NULL,
    position      bigint      NOT NULL,  -- of the refused message
    reason        text        NOT NULL,
    attempts      integer     NOT NULL DEFAULT 1,
    released      boolean     NOT NULL DEFAULT false,  -- by a person; the relay tries again
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

-- What a person did to repair something, and why.
CREATE TABLE outbox.operations (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operator    text        NOT NULL,
    role        text        NOT NULL DEFAULT current_user,
    action      text        NOT NULL,
    subject     text        NOT NULL,
    reason      text        NOT NULL CHECK (reason <> ''),
    details     jsonb       NOT NULL DEFAULT '{}',
    recorded_at timestamptz NOT NULL DEFAULT now()
);
