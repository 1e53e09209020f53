"""Dead letters for tests: written as a consumer writes them, and counted."""

from typing import Any

import psycopg

from consumers.dead_letters.store import DeadLetter, DeadLetters, Retried
from outbox.kafka import ConsumerRecord

TOPIC = "catalog.item.events"
PARTITIONS = [(TOPIC, partition) for partition in range(4)]


def letter(
    offset: int, key: str | None = "k", *, waiting: bool = False, **changes: Any
) -> DeadLetter:
    """One of partition 0, dead for its schema unless it waits; without a key it parks nothing."""
    raw = None if key is None else key.encode()
    record = ConsumerRecord(
        TOPIC, 0, offset, raw, b'{"offset":%d}' % offset, (("ce_id", b"\xff"),), 1_000
    )
    stream = None if key is None else f"{TOPIC}/{key}"
    reason, error, attempts = ("waits", "behind", 0) if waiting else ("schema", "name: missing", 1)
    values: dict[str, Any] = {
        "reason": reason,
        "error": error,
        "attempts": attempts,
        "waiting": waiting,
    }
    return DeadLetter(record, stream, **values | changes)


async def write(letters: DeadLetters, *several: DeadLetter) -> None:
    for each in several:
        await letters.write(each)


async def due(letters: DeadLetters) -> list[Retried]:
    """Of all partitions that tests write to."""
    return await letters.due(PARTITIONS)


async def statuses(postgres: psycopg.AsyncConnection) -> dict[int, str]:
    """By offset, of all consumers together."""
    rows = await postgres.execute('SELECT "offset", status FROM outbox.dead_letters ORDER BY 1')
    return dict(await rows.fetchall())
