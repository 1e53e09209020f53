-- What an operator asked to be published again, and how far that is. Who leads a replay is in its row,
-- as the relay's lease is in its own: an owner, a term that only rises, and an end by this clock.
CREATE TABLE outbox.replays (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status         text        NOT NULL DEFAULT 'running'
                               CHECK (status IN ('running', 'paused', 'done', 'cancelled')),
    consumer       text,                        -- null: every reader of the topics
    aggregates     text[],                      -- null: any; so are the others
    keys           text[],
    types          text[],
    topics         text[],
    since          timestamptz,
    before         timestamptz,
    first_position bigint      NOT NULL,
    last_position  bigint      NOT NULL,
    position       bigint      NOT NULL,        -- all up to this one is done
    messages_per_second double precision NOT NULL CHECK (messages_per_second > 0),
    selected       bigint      NOT NULL,        -- as counted at the start
    sent           bigint      NOT NULL DEFAULT 0,
    refused        bigint      NOT NULL DEFAULT 0,  -- by Kafka; they are passed over
    operator       text        NOT NULL,
    reason         text        NOT NULL CHECK (reason <> ''),
    created_at     timestamptz NOT NULL DEFAULT now(),
    ended_at       timestamptz,
    term           bigint      NOT NULL DEFAULT 0,
    owner          text,
    expires_at     timestamptz
) WITH (fillfactor = 50);  -- its row is written once a batch: its old versions go within the page
