-- What a payload is compared by. schemas.envelope.digest computes the same.
CREATE FUNCTION outbox.digest(payload text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN left(encode(sha256(convert_to(coalesce(payload, ''), 'UTF8')), 'hex'), 32);

-- For a program in any language, or psql: this event belongs to the transaction that calls.
-- Call it after the row locks of the domain are held. It locks the key's stream head until the
-- end of the transaction, so writers of one key take turns; the version and the position are
-- drawn while the head is locked, which is why order by position is commit order for a key.
CREATE FUNCTION outbox.publish(
    aggregatetype text,
    aggregateid   text,
    type          text,
    payload       jsonb,
    deletes       boolean DEFAULT false,
    headers       jsonb   DEFAULT '{}',
    topic         text    DEFAULT NULL,  -- aggregatetype || '.events'
    id            uuid    DEFAULT gen_random_uuid(),
    OUT "position" bigint,
    OUT version   bigint
)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    body text := publish.payload::text;
BEGIN
    -- The relay may read what it is told is committed only if a crash cannot take it back.
    PERFORM set_config('synchronous_commit', 'on', true);

    INSERT INTO outbox.streams AS head (aggregatetype, aggregateid, version, position, digest, deleted)
    VALUES (publish.aggregatetype, publish.aggregateid, 1, nextval('outbox.positions'),
            outbox.digest(body), publish.deletes)
    ON CONFLICT (aggregatetype, aggregateid) DO UPDATE SET
        version  = head.version + 1,
        position = nextval('outbox.positions'),  -- drawn again: now the head is locked
        digest   = EXCLUDED.digest,
        deleted  = EXCLUDED.deleted
    RETURNING head.position, head.version INTO publish.position, publish.version;

    INSERT INTO outbox.messages
        (position, id, aggregatetype, aggregateid, type, version, topic, payload, headers)
    VALUES (publish.position, publish.id, publish.aggregatetype, publish.aggregateid, publish.type,
            publish.version, coalesce(publish.topic, publish.aggregatetype || '.events'),
            body, publish.headers);
END
$function$;

COMMENT ON FUNCTION outbox.publish IS
    'Adds one event to the calling transaction; returns its position and the key''s new version.';

-- One partition a day (UTC), from today on. Attached rather than created in place: attaching does
-- not keep writers out of the parent.
CREATE FUNCTION outbox.create_partitions(days_ahead integer) RETURNS integer
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
        EXECUTE format('CREATE TABLE outbox.%I (LIKE outbox.messages INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        IF EXISTS (SELECT FROM outbox.messages_default WHERE created_at >= first AND created_at < after) THEN
            -- Nobody made this day in time: its rows go where they belong, as they are. Readers see
            -- them in one place or in the other, for both changes commit together.
            LOCK TABLE outbox.messages_default IN ACCESS EXCLUSIVE MODE;
            EXECUTE format('WITH moved AS (DELETE FROM outbox.messages_default'
                ' WHERE created_at >= %L AND created_at < %L RETURNING *)'
                ' INSERT INTO outbox.%I SELECT * FROM moved', first, after, name);
        END IF;
        EXECUTE format(
            'ALTER TABLE outbox.messages ATTACH PARTITION outbox.%I FOR VALUES FROM (%L) TO (%L)',
            name, first, after);
        created := created + 1;
    END LOOP;
    RETURN created;
END
$function$;

SELECT outbox.create_partitions(3);
