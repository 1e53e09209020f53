-- What outbox.publish checks before it writes, so that all that commits can be read. The numbers are
-- those of schemas/limits.py, which says why; a test asks this database about each of them.
-- outbox.publish, which calls these functions, has pinned the search path.

CREATE FUNCTION outbox.refuse(parameter text, rule text, hint text) RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', HINT = hint,
        MESSAGE = format('outbox.publish: %s: %s', parameter, rule);
END
$function$;

CREATE FUNCTION outbox.check_name(parameter text, given text) RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    IF given IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('outbox.publish: %s: must not be null', parameter);
    ELSIF length(given) NOT BETWEEN 1 AND 255 THEN
        PERFORM outbox.refuse(parameter, 'must have 1 to 255 characters',
                              format('It has %s.', length(given)));
    ELSIF given ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]' THEN
        PERFORM outbox.refuse(parameter, 'must not contain control characters',
                              'It travels as a header, and no reader takes those.');
    END IF;
END
$function$;

-- Returns the headers as they are stored: without those that are null, which mean the same.
CREATE FUNCTION outbox.check_headers(headers jsonb) RETURNS jsonb
    LANGUAGE plpgsql
AS $function$
DECLARE
    given      jsonb := jsonb_strip_nulls(headers);
    name       text;
    value      jsonb;
    extensions integer := 0;
BEGIN
    IF given IS NULL OR jsonb_typeof(given) = 'null' THEN
        RETURN '{}';
    ELSIF jsonb_typeof(given) <> 'object' THEN
        PERFORM outbox.refuse('headers', 'must be a JSON object', 'Such as {"tenant": "a"}.');
    ELSIF octet_length(given::text) > 8192 THEN
        PERFORM outbox.refuse('headers', 'at most 8192 bytes', 'What is large belongs into the payload.');
    END IF;
    FOR name, value IN SELECT * FROM jsonb_each(given) LOOP
        IF name NOT IN ('correlationid', 'causationid', 'traceparent') THEN
            extensions := extensions + 1;
            IF name !~ '^[a-z0-9]+$' OR length(name) > 20 THEN
                PERFORM outbox.refuse('headers.' || left(to_jsonb(name)::text, 100),
                    'a name has 1 to 20 of a-z and 0-9', 'It travels as an extension of a CloudEvent.');
            ELSIF name IN ('specversion', 'id', 'source', 'type', 'subject', 'time', 'datacontenttype',
                           'data', 'sequence', 'position', 'term', 'replayfor') THEN
                PERFORM outbox.refuse('headers.' || name, 'is reserved', 'Take another name.');
            END IF;
        END IF;
        IF jsonb_typeof(value) <> 'string' THEN
            PERFORM outbox.refuse('headers.' || name, 'must be text',
                                  'Attributes of a CloudEvent travel as text: write "5" for 5.');
        ELSIF octet_length(value #>> '{}') > 1024 THEN
            PERFORM outbox.refuse('headers.' || name, 'at most 1024 bytes',
                                  'What is large belongs into the payload.');
        ELSIF (value #>> '{}') ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]' THEN
            PERFORM outbox.refuse('headers.' || name, 'must not contain control characters',
                                  'No reader takes those in a header.');
        END IF;
    END LOOP;
    IF extensions > 64 THEN
        PERFORM outbox.refuse('headers', 'at most 64 extensions', 'What is much belongs into the payload.');
    END IF;
    RETURN given;
END
$function$;

-- Each check begins with what is cheap and excludes the breach for certain in all but a few documents.
-- `body` is the payload as text, as PostgreSQL prints jsonb.
CREATE FUNCTION outbox.check_payload(payload jsonb, body text) RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    size integer := octet_length(body);
BEGIN
    IF size > 900000 THEN
        PERFORM outbox.refuse('payload', 'at most 900000 bytes', format('It has %s.', size));
    ELSIF jsonb_path_exists(payload,
            'strict $.**{64} ? (@.type() == "object" || @.type() == "array")') THEN
        PERFORM outbox.refuse('payload', 'nested at most 64 levels', 'No reader takes more.');
    END IF;
    -- A double gives back every number of 15 digits; with its point that is 16 characters.
    IF body ~ '[0-9.]{17}' THEN
        PERFORM outbox.check_numbers(payload);
    END IF;
    -- Printed, each key has `": ` behind it.
    IF size > 6000 AND (size - octet_length(replace(body, '": ', ''))) / 3 > 1000
        AND EXISTS (SELECT FROM jsonb_path_query(payload, 'strict $.** ? (@.type() == "object")') AS part
                    WHERE (SELECT count(*) FROM jsonb_object_keys(part)) > 1000) THEN
        PERFORM outbox.refuse('payload', 'at most 1000 keys in an object', 'Take a list for many.');
    END IF;
    IF size > 262144 THEN
        PERFORM outbox.check_texts(payload);
    END IF;
END
$function$;

-- Readers make a double of a number with a fraction, as almost every JSON parser does. Its shortest
-- text must be the number that was written, or they would store another one.
CREATE FUNCTION outbox.is_double(number numeric) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
AS $function$
BEGIN
    RETURN number::text::float8::text::numeric = number;
EXCEPTION WHEN numeric_value_out_of_range THEN  -- too large, or so small that it would be zero
    RETURN false;
END
$function$;

CREATE FUNCTION outbox.check_numbers(payload jsonb) RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    number text;
BEGIN
    FOR number IN
        SELECT part #>> '{}' FROM jsonb_path_query(payload, 'strict $.** ? (@.type() == "number")') AS part
    LOOP
        IF position('.' IN number) > 0 AND NOT outbox.is_double(number::numeric) THEN
            PERFORM outbox.refuse('payload',
                'a number that is not an integer must be one that a double gives back as it is written',
                'Round it, or write it as text.');
        ELSIF length(ltrim(number, '-')) > 4300 AND position('.' IN number) = 0 THEN
            PERFORM outbox.refuse('payload', 'an integer has at most 4300 digits', 'Write it as text.');
        END IF;
    END LOOP;
END
$function$;

CREATE FUNCTION outbox.check_texts(payload jsonb) RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    IF EXISTS (
        SELECT FROM jsonb_path_query(payload, 'strict $.** ? (@.type() == "string")') AS part
        WHERE octet_length(part #>> '{}') > 262144
        UNION ALL
        SELECT FROM jsonb_path_query(payload, 'strict $.** ? (@.type() == "object")') AS part,
                    jsonb_object_keys(part) AS key
        WHERE octet_length(key) > 262144
    ) THEN
        PERFORM outbox.refuse('payload', 'a text or key has at most 262144 bytes',
                              'Keep what is longer elsewhere, and say where.');
    END IF;
END
$function$;
