-- A consumer has handled this message; the reply is what a second delivery is answered. It is the text
-- that was answered the first time: jsonb would sort its fields and write its numbers in another way
-- (1e23 as 24 digits, -0.0 as 0), and the second answer would differ.
CREATE TABLE outbox.receipts (
    consumer   text        NOT NULL,
    message_id text        NOT NULL,
    digest     text        NOT NULL,
    reply      json,
    handled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, message_id)
) WITH (fillfactor = 80);  -- the reply is set by an update in the same transaction
