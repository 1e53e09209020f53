-- What Debezium reads: inserts only, under the name of the whole table. A table without a replica
-- identity refuses deletes while they are published, and retention deletes late messages.
CREATE PUBLICATION aftercommit_outbox FOR TABLE outbox.messages
    WITH (publish = 'insert', publish_via_partition_root = true);

-- From here on PostgreSQL keeps its log until Debezium has read it.
SELECT pg_create_logical_replication_slot('aftercommit_outbox', 'pgoutput');
