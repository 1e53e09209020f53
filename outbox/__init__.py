"""The outbox: brings messages from a PostgreSQL transaction to Kafka, after the commit.

It knows no service. Writers use `outbox.write.database.Database.unit_of_work`, or the function
`outbox.publish` in SQL, and one relay publishes what was committed (`outbox.relay`). Start reading
with `outbox/write` and `outbox/relay`. The messages of a key stay in order. Delivery is at least
once: a crash may repeat a message, and never loses or reorders one. It does not promise an order
between keys.
"""
