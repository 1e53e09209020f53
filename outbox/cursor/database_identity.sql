-- Which database this is, by what PostgreSQL says of itself; database_identity.py says why.

-- name: inspect
-- One statement has one snapshot. pg_walfile_name gives the timeline that is written now, while
-- pg_control_checkpoint gives the old one for a while after a promotion.
-- A row that this snapshot shows was written by a transaction that it shows, unless the row was
-- copied here with a transaction id of another database. Two index probes find rows whose id this
-- snapshot does not show.
SELECT pg_is_in_recovery() AS standby,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
       CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer
       END AS timeline,
       known.system_identifier AS known_system_identifier,
       known.timeline AS known_timeline,
       outbox.database_oid()::bigint AS database_oid,
       known.database_oid AS known_database_oid,
       coalesce(known.copied, false) AS copied,
       greatest(pg_snapshot_xmax(relay.cursor), pg_snapshot_xmax(relay.upto))
           > pg_snapshot_xmax(pg_current_snapshot()) AS cursor_ahead,
       EXISTS (SELECT FROM outbox.messages
               WHERE transaction_id >= pg_snapshot_xmax(pg_current_snapshot()))
           OR EXISTS (SELECT FROM outbox.messages WHERE transaction_id = ANY (
                          ARRAY(SELECT pg_snapshot_xip(pg_current_snapshot())))) AS messages_ahead
FROM outbox.relay AS relay
LEFT JOIN (
    SELECT system_identifier, timeline, database_oid::bigint AS database_oid,
           xmin::text::bigint <> (transaction_id::text::numeric % 4294967296) AS copied
    FROM outbox.database_identity ORDER BY number DESC LIMIT 1
) AS known ON true
WHERE relay.name = 'main'
