-- Which database the relay's cursor belongs to, so that a restore, a failover or a copy is noticed.

-- A copy made by CREATE DATABASE ... TEMPLATE has the same system identifier, timeline and transaction
-- ids as its original, and a relay at each would publish the same messages. Its oid is another one; a
-- renamed database keeps its own.

CREATE FUNCTION outbox.database_oid() RETURNS oid
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    RETURN (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database());

-- Rows are only inserted, and the last one counts. Nobody may update one, because each is its own
-- proof: in the history that wrote it, its hidden xmin is the transaction that it names; in a restored
-- dump it is the transaction that restored it. It is numbered by hand, because a sequence may be
-- restored too.

CREATE TABLE outbox.database_identity (
    number            integer     PRIMARY KEY,
    system_identifier text        NOT NULL,
    timeline          integer     NOT NULL,
    transaction_id    xid8        NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at       timestamptz NOT NULL DEFAULT now(),
    database_oid      oid         NOT NULL DEFAULT outbox.database_oid()
);
