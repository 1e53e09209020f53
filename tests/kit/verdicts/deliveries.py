"""Deliveries: what the relays have recorded as acknowledged, and by which term."""

import psycopg

from tests.kit.waiting import until

RECORDED = "SELECT coalesce(sum(messages), 0) FROM outbox.deliveries"
# Two records of one place in a partition.
OVERLAPS = """
    SELECT count(*) FROM outbox.deliveries AS one JOIN outbox.deliveries AS other
      ON one.topic = other.topic AND one.partition = other.partition AND one.id < other.id
     AND one.first_offset <= other.last_offset AND other.first_offset <= one.last_offset
"""
WITHIN_SECONDS = 120.0


async def recorded_once(postgres: psycopg.AsyncConnection, messages: int) -> None:
    """Return once so many messages are recorded; assert that each is, under one term and place.

    A message that is sent twice is recorded once: a relay whose term has ended records nothing.
    """

    async def all_recorded() -> bool:
        return await _read_number(postgres, RECORDED) >= messages

    await until(all_recorded, WITHIN_SECONDS)
    assert await _read_number(postgres, RECORDED) == messages
    assert await _read_number(postgres, OVERLAPS) == 0


async def _read_number(postgres: psycopg.AsyncConnection, statement: str) -> int:
    row = await (await postgres.execute(statement.encode())).fetchone()
    assert row is not None
    return int(row[0])
