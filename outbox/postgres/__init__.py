"""How this project talks to PostgreSQL: sessions, transactions, deadlines and migrations.

Start with `connection`, the one place that opens sessions; all of them have the same settings.
`transactions` has the two kinds of transaction that maintenance uses, `pipeline` sends several
statements in one round trip, and `deadline` ends a wait for a server that may never answer.
`migrate` applies the numbered SQL files, `foreign_schema` recognises a schema that is not ours,
and `pooler` refuses a connection pooler where the relay needs its own session. Nothing here knows
what a message is, and nothing here retries: the errors reach the caller.
"""
