-- One partition a day (UTC), made ahead. A new partition is attached rather than created in place,
-- because attaching does not keep writers out of the parent.
--
-- A day of which the default partition has messages is not made any more: messages never move. A
-- reader that plans its query while rows go from the default partition to a new one waits for the
-- default partition's lock, and then looks where they were. It knows nothing of the new partition,
-- and its snapshot shows the rows gone, so a relay would pass them over for good. Retention deletes
-- such rows in the default partition.
--
-- The bounds of a partition go through text inside this function. In a session with German or SQL
-- dates they would carry the abbreviation of a zone, which PostgreSQL before 18 reads back as
-- another one: IST is written for Kolkata, and means Israel. So date style and zone are set here,
-- and the days begin at midnight UTC whoever calls it.

CREATE FUNCTION outbox.create_partitions(days_ahead integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET DateStyle = 'ISO, MDY'
    SET TimeZone = 'UTC'
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

SELECT outbox.create_partitions(3);
