-- What people do about dead letters: retry, discard. A letter is open (dead, waiting, retrying) until
-- it is closed (applied, discarded); a closed one stays as history until a person prunes it.
--
--   dead      --retry-->  retrying  --redone-->  applied
--   waiting   --redone, once no dead letter of its key is before it-->  applied
--   retrying, waiting  --failed again-->  dead
--   dead      --discard-->  discarded
--   applied   --delivered again, and failed or must wait-->  dead, waiting
ALTER TABLE outbox.dead_letters
    DROP CONSTRAINT dead_letters_status_check,
    ADD COLUMN closed_at timestamptz,
    -- When Kafka had it; -1 where nobody wrote it down.
    ADD COLUMN timestamp_milliseconds bigint NOT NULL DEFAULT -1;

UPDATE outbox.dead_letters SET status = 'applied' WHERE status = 'retried';
UPDATE outbox.dead_letters SET closed_at = now() WHERE status IN ('applied', 'discarded');

ALTER TABLE outbox.dead_letters
    ADD CONSTRAINT dead_letters_status_check
        CHECK (status IN ('dead', 'waiting', 'retrying', 'applied', 'discarded')),
    ADD CONSTRAINT dead_letters_closed_check
        CHECK ((closed_at IS NOT NULL) = (status IN ('applied', 'discarded')));

-- Which letter of a key is the first open one, and what waits behind it.
DROP INDEX outbox.dead_letters_parked;
CREATE INDEX dead_letters_open ON outbox.dead_letters (consumer, stream, partition, "offset")
    WHERE status IN ('dead', 'waiting', 'retrying');
-- What a person has asked for, of letters without a key.
CREATE INDEX dead_letters_retrying ON outbox.dead_letters (consumer) WHERE status = 'retrying';
-- A person's list, oldest first, however long the history is.
CREATE INDEX dead_letters_list ON outbox.dead_letters (id)
    WHERE status IN ('dead', 'waiting', 'retrying');
-- What a person prunes.
CREATE INDEX dead_letters_closed ON outbox.dead_letters (closed_at) WHERE closed_at IS NOT NULL;

-- What was done about one letter: details.letters holds the ids.
CREATE INDEX operations_letters ON outbox.operations USING gin ((details -> 'letters') jsonb_path_ops);
