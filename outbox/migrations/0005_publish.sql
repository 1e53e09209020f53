-- Adds an event to the transaction that calls, for a program in any language, or psql. Call it after
-- the row locks of the domain are held. It locks the key's stream head until the end of the
-- transaction, so writers of one key take turns; version and position are drawn while the head is
-- locked, which is why order by position is commit order for a key.
--
-- What is given is checked first. `id` names the message: where it is given twice, the second call is
-- refused, whatever it says. Its row is the first that is written, so two transactions that publish
-- the same of the same key meet here, and the later one waits until the first has ended.

CREATE FUNCTION outbox.publish(
    aggregatetype text,
    aggregateid   text,
    type          text,
    payload       jsonb,                 -- NULL is a tombstone, and only of what deletes
    deletes       boolean DEFAULT false,
    headers       jsonb   DEFAULT '{}',  -- correlationid, causationid, traceparent, and extensions
    topic         text    DEFAULT NULL,  -- aggregatetype || '.events'
    id            uuid    DEFAULT NULL,  -- a random one
    OUT "position" bigint,
    OUT version   bigint
)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    body        text  := publish.payload::text;
    destination text  := coalesce(publish.topic, publish.aggregatetype || '.events');
    beside      jsonb := '{}';
    identity    uuid  := publish.id;
BEGIN
    -- One look at all of them; which of them it is, and what is wrong, is asked for after that.
    IF (length(publish.aggregatetype) BETWEEN 1 AND 255 AND length(publish.aggregateid) BETWEEN 1 AND 255
        AND length(publish.type) BETWEEN 1 AND 255
        AND (publish.aggregatetype || publish.aggregateid || publish.type)
            !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]') IS NOT TRUE THEN
        PERFORM outbox.check_name('aggregatetype', publish.aggregatetype);
        PERFORM outbox.check_name('aggregateid', publish.aggregateid);
        PERFORM outbox.check_name('type', publish.type);
    ELSIF length(destination) NOT BETWEEN 1 AND 249 OR destination IN ('.', '..')
        OR destination ~ '[^a-zA-Z0-9._-]' THEN
        PERFORM outbox.refuse('topic',
            'must have 1 to 249 of a-z, A-Z, 0-9, ".", "_" and "-", and not be "." or ".."',
            'Where none is given, it is the aggregatetype followed by ".events".');
    END IF;
    IF publish.deletes IS NULL OR (body IS NULL AND NOT publish.deletes) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('outbox.publish: %s: must not be null',
                             CASE WHEN publish.deletes IS NULL THEN 'deletes' ELSE 'payload' END),
            HINT = 'A payload may be null where deletes is true; JSON null is ''null''::jsonb.';
    END IF;
    -- In less there is no room for a 65th level and its end; a long number has room in 17 bytes.
    IF octet_length(body) > 128 OR body ~ '[0-9.]{17}' THEN
        PERFORM outbox.check_payload(publish.payload, body);
    END IF;
    IF publish.headers <> '{}' THEN
        beside := outbox.check_headers(publish.headers);
    END IF;

    IF identity IS NULL THEN
        identity := gen_random_uuid();
    ELSE
        INSERT INTO outbox.message_ids (id) VALUES (identity) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'unique_violation',
                MESSAGE = format('outbox.publish: id: a message has %s already', identity),
                DETAIL = 'An id names one message for ever, also one with the same content.',
                HINT = 'Leave the id out to get a new one.';
        END IF;
    END IF;

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
    VALUES (publish.position, identity, publish.aggregatetype, publish.aggregateid, publish.type,
            publish.version, destination, body, beside);
END
$function$;

COMMENT ON FUNCTION outbox.publish IS
    'Adds one event to the calling transaction; returns its position and the key''s new version.';
