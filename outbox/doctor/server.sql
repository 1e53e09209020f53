-- What doctor asks of the server.

-- name: read
-- Sessions are counted by database, which every role may see. A standby has its own end of the WAL.
SELECT current_setting('server_version_num')::integer / 10000 AS version,
       pg_is_in_recovery() AS standby,
       current_setting('server_encoding') AS encoding,
       current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       ARRAY(SELECT ARRAY[coalesce('role ' || rolname, 'every role') || ' in '
                              || coalesce('database ' || datname, 'every database'),
                          split_part(entry, '=', 2)]
             FROM pg_db_role_setting
             CROSS JOIN unnest(setconfig) AS entry
             LEFT JOIN pg_roles ON pg_roles.oid = setrole
             LEFT JOIN pg_database ON pg_database.oid = setdatabase
             WHERE starts_with(entry, 'synchronous_commit=')
               AND coalesce(datname, current_database()) = current_database()
             ORDER BY 1) AS commit_defaults,
       current_setting('autovacuum') AS autovacuum,
       current_setting('track_counts') AS track_counts,
       current_setting('max_connections')::integer
           - current_setting('superuser_reserved_connections')::integer
           - coalesce(current_setting('reserved_connections', true)::integer, 0) AS connections,
       (SELECT sum(numbackends)::integer FROM pg_stat_database) AS connected,
       ARRAY(SELECT ARRAY[slot_name::text, pg_wal_lsn_diff(
                              CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                                   ELSE pg_current_wal_lsn() END, restart_lsn)::text]
             FROM pg_replication_slots
             WHERE NOT active AND restart_lsn IS NOT NULL
             ORDER BY 1) AS idle_slots,
       current_setting('max_slot_wal_keep_size') AS slot_limit
