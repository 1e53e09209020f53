"""The crossing: from a PostgreSQL transaction to Kafka, after the commit, in order per key.

It knows no service. Writers use `Database.unit_of_work` (or `outbox.publish` in SQL); one relay
publishes. Delivery is at least once: a crash may repeat a message, never lose or reorder one.
"""
