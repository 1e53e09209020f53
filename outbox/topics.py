"""Topics as the relay has met them: how many partitions each counts as having, for ever."""

from collections.abc import Mapping
from typing import Any

import psycopg
import structlog

log = structlog.get_logger()

READ = "SELECT topic, partitions FROM outbox.topics"
# Whoever was first is right: the keys already go where that count sent them.
RECORD = "INSERT INTO outbox.topics (topic, partitions) VALUES (%s, %s) ON CONFLICT DO NOTHING"


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
