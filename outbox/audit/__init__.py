"""The audit: compares PostgreSQL, the recorded deliveries and the topics, message by message.

Start with `audit`, whose docstring says what is compared when, and what the weaknesses are. `scope`
reads what PostgreSQL says of the range, `topic_scan` turns records into rows, `comparison` and
`missing` compare them in temporary tables, and `findings` reads the differences. Writers and the
relay go on meanwhile, and nothing is written but temporary tables; memory is bounded here and in
PostgreSQL. It reports and repairs nothing, and where another program publishes (Debezium), there
are no deliveries to compare with.
"""
