-- The stream heads: every key that there is, its version, and the position of its latest message.
CREATE TABLE outbox.streams (
    aggregatetype text    COLLATE "C" NOT NULL,
    aggregateid   text    COLLATE "C" NOT NULL,
    version       bigint  NOT NULL,
    position      bigint  NOT NULL,
    digest        text    NOT NULL,
    deleted       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (aggregatetype, aggregateid)
) WITH (fillfactor = 70);  -- room for the next version on the same page: updates stay HOT

-- Payloads are compared by this digest. schemas.envelope.digest computes the same.
CREATE FUNCTION outbox.digest(payload text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN left(encode(sha256(convert_to(coalesce(payload, ''), 'UTF8')), 'hex'), 32);
