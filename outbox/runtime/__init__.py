"""How our programs run: start, signals, logs, output, waiting and planned failures.

Start with `lifecycle`, which runs a role until a signal ends it, or a question until its answer.
`logs` sets up the logs, `output` is the one place that writes to an operator, `backoff`,
`poll_interval` and `rate_limit` say how long to wait, `owner` names a process that holds a lease,
and `failpoints` lets a test end or delay a process at a named moment. A process that is asked to
stop ends within its stop timeout even where a server no longer answers, and no log line ever blocks
it. Nothing here knows messages, topics or tables, and log lines may be dropped (and are counted)
where nobody reads them.
"""
