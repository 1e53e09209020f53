-- Messages never move. A reader that plans its query while rows go from the default partition to a
-- new day waits for the default one's lock, and then looks where they were: it knows nothing of the
-- new day, and its snapshot shows them gone. A relay would pass them over for good. So a day of
-- which the default partition has messages is not made any more; retention deletes them there.
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
        EXECUTE format(
            'ALTER TABLE outbox.messages ATTACH PARTITION outbox.%I FOR VALUES FROM (%L) TO (%L)',
            name, first, after);
        created := created + 1;
    END LOOP;
    RETURN created;
END
$function$;
