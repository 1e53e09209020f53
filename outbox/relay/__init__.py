"""The relay: publishes committed messages from PostgreSQL to Kafka, in order per key.

Start with `relay.Relay`, which leads or stands by, and `term.Term`, which publishes one cut after
another while the lease lasts. `renderer` makes a Kafka record of a row, `sender` sends the records
and finds out which of them Kafka refuses for good, and `parked_keys` sets the keys of those aside.
`parked_repair` is what an operator does about such keys. Each message is published at least once:
a crash can repeat what was sent since the last acknowledged page, and nothing else. It does not
promise exactly once, and one relay at a time publishes for a whole database.
"""
