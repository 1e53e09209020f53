"""The topics that the relay has used, with their partition counts, and the topics it needs.

The relay records how many partitions a topic had when it first published to it. That number counts
for ever, so that a key stays in its partition when the topic gets more of them.
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
# The first count that was recorded stays: the keys already go where that count sent them.
RECORD = "INSERT INTO outbox.topics (topic, partitions) VALUES (%s, %s) ON CONFLICT DO NOTHING"

# A topic that messages go to is either recorded, because it was published to, or the topic of a
# parked key, of a message that waits behind one, or of a message that the relay has not reached.
# Of the last two only so many rows are read, each by an index: there may be millions of them, for
# few topics.
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
# Keys that wait for a missing topic only. A released key needs no attention any more.
WAITING_FOR_TOPICS = """
SELECT topic, count(*) FROM outbox.parked WHERE reason = %s AND NOT released GROUP BY topic
"""


async def read_needed_topics(connection: psycopg.AsyncConnection[Any]) -> set[str]:
    """Return the topics that the outbox's messages go to, whether Kafka has them or not.

    It looks at most at 50,000 messages that wait and at 50,000 that are pending, so it may miss a
    topic behind them.
    """
    async with connection.cursor(row_factory=dict_row) as cursor:
        relay = require_relay_row(await (await cursor.execute(RELAY)).fetchone())
    parameters = build_pending_parameters(relay) | {"most": LOOKED_AT_MESSAGES}
    rows = await connection.execute(NEEDED, parameters)
    return {_str(topic) for (topic,) in await rows.fetchall()}


async def count_keys_without_topic(connection: psycopg.AsyncConnection[Any]) -> dict[str, int]:
    """Return, by topic, how many keys are parked because that topic was missing."""
    rows = await connection.execute(WAITING_FOR_TOPICS, [TOPIC_MISSING])
    return {_str(topic): keys for topic, keys in await rows.fetchall()}


async def read_topics(connection: psycopg.AsyncConnection[Any]) -> dict[str, int]:
    """Return the recorded partition count of each topic that was ever published to."""
    rows = await connection.execute(READ)
    return {_str(topic): partitions for topic, partitions in await rows.fetchall()}


async def record_topics(
    connection: psycopg.AsyncConnection[Any], used: Mapping[str, int], recorded: dict[str, int]
) -> None:
    """Record the partition count of each new topic in `used`, and add it to `recorded`.

    The relay does this before it sends anything to the topic.
    """
    if used.keys() <= recorded.keys():
        return
    for topic in used.keys() - recorded.keys():
        await connection.execute(RECORD, [topic, used[topic]])
        recorded[topic] = used[topic]
        log.info("topic recorded", topic=topic, partitions=used[topic])


def _str(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
