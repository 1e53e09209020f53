-- What an operator did to repair something, and why.
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

-- Finds what was done about one dead letter: details.letters holds the ids.
CREATE INDEX operations_letters ON outbox.operations USING gin ((details -> 'letters') jsonb_path_ops);
