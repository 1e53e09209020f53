"""How a service changes its tables and publishes messages in the same PostgreSQL transaction.

Start with `database.Database`, whose `unit_of_work()` opens the transaction, and with
`unit_of_work.UnitOfWork`. `publishing` holds the SQL that gives each message its version and its
position. The `unit_*` modules and `savepoints` make sure that nobody but the unit ends the
transaction. Rows and messages are committed together or not at all, and the versions of a key have
no gap. Nothing here talks to Kafka: a relay publishes what was committed.
"""
