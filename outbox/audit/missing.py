"""Missing messages: the relay has passed them, and they are in no topic; lost, or expired.

The topic's own retention, or an operator, removes records from the beginning of a partition. So
the place of a message is found out first: the partition of its key, and the delivery that covers
its position. If the partition begins behind that place now, the message is expired, else lost.
"""

from typing import Any

import psycopg

from outbox.kafka import partition_of

CHUNK = 5_000

PREPARE = """
CREATE TEMPORARY TABLE missing (position bigint, topic integer, partition integer);
CREATE TEMPORARY TABLE lost (position bigint, partition integer, delivery bigint);
"""
FIND = """
SELECT missing.position, missing.topic, missing.key, topic.partitions
FROM pg_temp.evidence AS missing JOIN pg_temp.topics AS topic ON topic.number = missing.topic
WHERE missing.state = 'published' AND missing."offset" IS NULL
  AND missing.id NOT IN (SELECT id FROM pg_temp.evidence WHERE state = 'moved')
"""
COPY = "COPY pg_temp.missing FROM STDIN"
# The records of a delivery are in order of position, so a message below the lowest record that is
# still there went with the topic's beginning. Deliveries are deleted after a time as well: a
# message from before the oldest delivery that is left may have been covered by a deleted one.
JUDGE = """
WITH edge AS MATERIALIZED (
    SELECT delivery.id, min(record.said) AS lowest
    FROM pg_temp.deliveries AS delivery JOIN pg_temp.partitions AS place USING (topic, partition)
    LEFT JOIN pg_temp.evidence AS record ON record.delivery = delivery.id
    WHERE place.log_start > first_offset AND place.log_start <= last_offset
    GROUP BY delivery.id
)
INSERT INTO pg_temp.lost
SELECT missing.position, missing.partition, delivery.id
FROM pg_temp.missing AS missing
JOIN outbox.messages AS message ON message.position = missing.position
LEFT JOIN pg_temp.partitions AS place
       ON place.topic = missing.topic AND place.partition = missing.partition
LEFT JOIN LATERAL (
    SELECT * FROM pg_temp.deliveries AS delivery
    WHERE delivery.topic = missing.topic AND delivery.partition = missing.partition
      AND delivery.last_position >= missing.position AND delivery.first_position <= missing.position
    ORDER BY delivery.last_position LIMIT 1) AS delivery ON true
LEFT JOIN edge ON edge.id = delivery.id
WHERE NOT coalesce(CASE
    WHEN delivery.id IS NULL THEN place.log_start > 0 AND message.created_at < %(since)s
    WHEN delivery.last_offset < place.log_start THEN true
    WHEN edge.id IS NULL THEN false
    ELSE missing.position < coalesce(edge.lowest, delivery.last_position + 1) END, false)
"""
COUNT = "SELECT (SELECT count(*) FROM pg_temp.missing), (SELECT count(*) FROM pg_temp.lost)"


async def judge_missing(
    connection: psycopg.AsyncConnection[Any], deliveries_since: object
) -> tuple[int, int]:
    """Fill the session's table of lost messages; return how many are lost, and how many expired."""
    async with connection.cursor("missing") as found:
        await found.execute(FIND)
        while rows := await found.fetchmany(CHUNK):
            async with connection.cursor().copy(COPY) as copy:
                for position, topic, key, partitions in rows:
                    partition = partition_of(bytes(key), partitions) if partitions else None
                    await copy.write_row([position, topic, partition])
    await connection.execute("ANALYZE pg_temp.missing")
    await connection.execute(JUDGE, {"since": deliveries_since})
    missing, lost = await (await connection.execute(COUNT)).fetchone() or (0, 0)
    return lost, missing - lost
