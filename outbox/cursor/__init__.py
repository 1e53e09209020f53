"""Which committed messages the relay has published, and who may publish the next ones.

Start with `cut`, which says what became visible between two snapshots of PostgreSQL, then read
`progress` (where publishing stands) and `lease` (which relay may publish). `database_identity`
finds out whether the cursor belongs to this database, and `reconcile` repairs it after a restore,
a failover or a copy. No committed message is passed over, the messages of a key keep their order,
and a relay that was replaced moves nothing. Nothing here prevents that a message is sent twice
after a crash, and nothing here talks to Kafka.
"""
