"""The daily partitions of outbox.messages: made ahead, and dropped once they are past retention.

Start with `retention`, whose docstring says why a drop is safe, and what its weaknesses are.
`create_ahead` makes the days to come, `compaction` copies the latest message of each key before a
day is dropped, `default_partition` deletes old rows that are in no daily partition, `pruner` is the
relay's own prune, and `report` shows every partition. A message is dropped only when it is past
retention, published and not parked, and the latest message of each key is kept for ever. Nothing
is dropped where another program publishes (Debezium), because the relay's cursor then never moves.
"""
