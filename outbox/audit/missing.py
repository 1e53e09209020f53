"""Missing messages: the relay has passed them, and they are in no topic; lost, or expired.

The topic's own retention, or an operator, removes records from the beginning of a partition. So
the place of a message is found out first: the partition of its key, and the delivery that covers
its position. If the partition begins behind that place now, the message is expired, else lost.
"""

from typing import Any

import psycopg

from outbox.kafka import partition_of
from outbox.postgres.sql_file import read_statements

CHUNK = 5_000

SQL = read_statements(__file__)
PREPARE = SQL["prepare"]


async def judge_missing(
    connection: psycopg.AsyncConnection[Any], deliveries_since: object
) -> tuple[int, int]:
    """Fill the session's table of lost messages; return how many are lost, and how many expired."""
    async with connection.cursor("missing") as found:
        await found.execute(SQL["find"])
        while rows := await found.fetchmany(CHUNK):
            async with connection.cursor().copy(SQL["copy"]) as copy:
                for position, topic, key, partitions in rows:
                    partition = partition_of(bytes(key), partitions) if partitions else None
                    await copy.write_row([position, topic, partition])
    await connection.execute("ANALYZE pg_temp.missing")
    await connection.execute(SQL["judge"], {"since": deliveries_since})
    missing, lost = await (await connection.execute(SQL["count"])).fetchone() or (0, 0)
    return lost, missing - lost
