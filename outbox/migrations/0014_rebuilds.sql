-- What is known of a rebuild outside of the process that carries it out: how far it is, which operator wants it
-- and why. A rebuild is open until it is done or abandoned.
CREATE TABLE outbox.rebuilds (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projection  text        NOT NULL,
    action      text        NOT NULL CHECK (action IN ('rebuild', 'rollback')),
    generation  integer     NOT NULL CHECK (generation >= 1),  -- that is to become the live one
    former      integer     NOT NULL CHECK (former >= 1),      -- that was live before
    model       text,                                          -- NULL: the former's
    phase       text        NOT NULL CHECK (phase IN ('filling', 'switching', 'settling', 'done', 'abandoned')),
    keys        bigint      NOT NULL DEFAULT 0,  -- that the heads had, at the last check
    differing   bigint      NOT NULL DEFAULT 0,  -- keys that the last check found to differ
    brought     bigint      NOT NULL DEFAULT 0,  -- keys brought over from the outbox so far
    checks      integer     NOT NULL DEFAULT 0,
    operator    text        NOT NULL,
    reason      text        NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    switched_at timestamptz,
    finished_at timestamptz
);

CREATE UNIQUE INDEX rebuilds_open ON outbox.rebuilds (projection)
    WHERE phase IN ('filling', 'switching', 'settling');
