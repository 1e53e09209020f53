"""Topics as the relay has met them, and those that messages wait for.

How many partitions one counts as having is for ever what it had when the relay first used it.
"""

from collections.abc import Mapping
from typing import Any

import psycopg
import structlog
from psycopg.rows import dict_row

from outbox.cursor.relay_row import require_relay_row
from outbox.kafka.errors import TOPIC_MISSING
from outbox.status import RELAY, build_pending_parameters

log = structlog.get_logger()

READ = "SELECT topic, partitions FROM outbox.topics"
# Whoever was first is right: the keys already go where that count sent them.
RECORD = "INSERT INTO outbox.topics (topic, partitions) VALUES (%s, %s) ON CONFLICT DO NOTHING"

# Each topic that messages go to is either recorded, since it was published to, or one of these: of
# keys that are parked, of what waits behind them, and of what the relay has not reached. Both last
# are read only so far, by an index each: there may be millions, of few topics.
NEEDED = """
SELECT topic FROM outbox.topics
UNION SELECT topic FROM outbox.parked
UNION SELECT topic FROM (
    SELECT message.topic
    FROM (SELECT position FROM outbox.parked_messages LIMIT %(most)s) AS waiting
    JOIN outbox.messages AS message ON message.position = waiting.position) AS parked
UNION SELECT topic FROM (
    SELECT topic FROM outbox.messages
    WHERE transaction_id >= %(xmax)s::xid8 OR transaction_id = ANY (%(running)s::xid8[])
    LIMIT %(most)s) AS pending
"""
LOOKED_AT_MESSAGES = 50_000
# Keys that wait for a topic and for nothing else; who has released one need not be told again.
WAITING_FOR_TOPICS = """
SELECT topic, count(*) FROM outbox.parked WHERE reason = %s AND NOT released GROUP BY topic
"""


async def read_needed_topics(connection: psycopg.AsyncConnection[Any]) -> set[str]:
    """Those that the outbox's messages go to, whether Kafka has them or not."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        relay = require_relay_row(await (await cursor.execute(RELAY)).fetchone())
    parameters = build_pending_parameters(relay) | {"most": LOOKED_AT_MESSAGES}
    rows = await connection.execute(NEEDED, parameters)
    return {_str(topic) for (topic,) in await rows.fetchall()}


async def count_keys_without_topic(connection: psycopg.AsyncConnection[Any]) -> dict[str, int]:
    """How many keys are parked because their topic was missing, by that topic."""
    rows = await connection.execute(WAITING_FOR_TOPICS, [TOPIC_MISSING])
    return {_str(topic): keys for topic, keys in await rows.fetchall()}


async def read_topics(connection: psycopg.AsyncConnection[Any]) -> dict[str, int]:
    rows = await connection.execute(READ)
    return {_str(topic): partitions for topic, partitions in await rows.fetchall()}


async def record_topics(
    connection: psycopg.AsyncConnection[Any], used: Mapping[str, int], recorded: dict[str, int]
) -> None:
    """Record, before anything is sent to it, the count of each topic that is new."""
    if used.keys() <= recorded.keys():
        return
    for topic in used.keys() - recorded.keys():
        await connection.execute(RECORD, [topic, used[topic]])
        recorded[topic] = used[topic]
        log.info("topic recorded", topic=topic, partitions=used[topic])


def _str(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
