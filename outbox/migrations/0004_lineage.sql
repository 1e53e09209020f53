-- Which history of the database the relay's cursor belongs to, so that a restore or a failover is
-- noticed. INSERT-only: the last row counts. Nobody may update one, because each is its own proof:
-- in the history that wrote it, its hidden xmin is the transaction that it names; in a restored
-- dump it is the transaction that restored it. (Numbered by hand: a sequence may be restored too.)
CREATE TABLE outbox.lineage (
    number            integer     PRIMARY KEY,
    system_identifier text        NOT NULL,
    timeline          integer     NOT NULL,
    transaction_id    xid8        NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at       timestamptz NOT NULL DEFAULT now()
);

-- The highest position that the relay ever passed. Messages of this history that the cursor shows
-- are at or below it; what was written after a restore is above it, whatever its transaction id.
ALTER TABLE outbox.relay ADD COLUMN highest_position bigint NOT NULL DEFAULT 0;
UPDATE outbox.relay SET highest_position = coalesce((
    SELECT max(message.position) FROM outbox.messages AS message
    WHERE pg_visible_in_snapshot(message.transaction_id, relay.cursor)
       OR (pg_visible_in_snapshot(message.transaction_id, relay.upto)
           AND message.position <= relay.position)), 0);
