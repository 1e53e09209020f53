-- Which database of its cluster the relay's cursor belongs to, so that a copy made by CREATE DATABASE
-- ... TEMPLATE is noticed: it has the same system identifier, timeline and transaction ids as its
-- original, and a relay at each would publish the same messages. Its oid is another one; a renamed
-- database keeps its own.
CREATE FUNCTION outbox.database_oid() RETURNS oid
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    RETURN (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database());

-- What was recorded before this belongs here, unless this database is a copy itself. That shows by
-- two signs at once: the database is younger than a table in it, so it came with a template; and it
-- is younger than the record, so that was written elsewhere. 0 is no database's oid: a relay halts.
-- (A database from a template that was renamed since looks the same; it needs one reconciliation.)
-- A default that is a constant rewrites no row: each row's hidden xmin is its proof.
DO $$
DECLARE
    is_copy boolean;
BEGIN
    SELECT own.oid > 'outbox.lineage'::regclass::oid
           AND age(own.xmin) < pg_current_xact_id()::text::bigint - known.transaction_id::text::bigint
    INTO is_copy
    FROM pg_database AS own,
         (SELECT transaction_id FROM outbox.lineage ORDER BY number DESC LIMIT 1) AS known
    WHERE own.datname = current_database();
    EXECUTE format('ALTER TABLE outbox.lineage ADD COLUMN database_oid oid NOT NULL DEFAULT %s',
                   CASE WHEN is_copy THEN 0 ELSE outbox.database_oid() END);
END $$;
ALTER TABLE outbox.lineage ALTER COLUMN database_oid SET DEFAULT outbox.database_oid();

-- Where somebody publishes the deletes and updates of all tables, PostgreSQL refuses them at a table
-- without a replica identity. Messages have no primary key, for it would cost each insert an index;
-- their whole row is one, and is written to the log only where one is deleted (a late message) or
-- renumbered (a repair).
DO $$
DECLARE
    day regclass;
BEGIN
    ALTER TABLE outbox.messages REPLICA IDENTITY FULL;
    FOR day IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'outbox.messages'::regclass LOOP
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', day);
    END LOOP;
END $$;

-- As in 0006, and with a replica identity.
CREATE OR REPLACE FUNCTION outbox.create_partitions(days_ahead integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '2s'  -- rather later than in the way of writers
AS $function$
DECLARE
    today   date := (now() AT TIME ZONE 'UTC')::date;
    day     date;
    name    text;
    first   timestamptz;
    after   timestamptz;
    created integer := 0;
BEGIN
    FOR day IN SELECT today + n FROM generate_series(0, days_ahead) AS n LOOP
        name := 'messages_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('outbox.' || name) IS NOT NULL;
        first := day::timestamp AT TIME ZONE 'UTC';
        after := (day + 1)::timestamp AT TIME ZONE 'UTC';
        IF day = today THEN
            -- Writers are at this day: one that waits for the default partition, while the day is
            -- attached, would be refused there. So they wait here, and find the day afterwards.
            LOCK TABLE ONLY outbox.messages IN SHARE ROW EXCLUSIVE MODE;
        END IF;
        CONTINUE WHEN EXISTS (SELECT FROM outbox.messages_default
                              WHERE created_at >= first AND created_at < after);
        EXECUTE format('CREATE TABLE outbox.%I (LIKE outbox.messages INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        EXECUTE format('ALTER TABLE outbox.%I REPLICA IDENTITY FULL', name);
        EXECUTE format(
            'ALTER TABLE outbox.messages ATTACH PARTITION outbox.%I FOR VALUES FROM (%L) TO (%L)',
            name, first, after);
        created := created + 1;
    END LOOP;
    RETURN created;
END
$function$;
