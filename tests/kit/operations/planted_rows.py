"""Rows of messages, deliveries and the cursor that no relay would leave (see an audit's tests)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from outbox.kafka import Partition, partition_of
from schemas.envelope import Envelope
from tests.kit.topics import PARTITIONS

WRITE = """
    SELECT position FROM outbox.publish('test.note', %s, 'test.noted.v1', '{"text": "a"}',
                                        headers => %s::jsonb)
"""
READ = """
    SELECT position, id, aggregateid, type, version, topic, payload, created_at
    FROM outbox.messages WHERE position = %s
"""
MOVE_CURSOR = "UPDATE outbox.relay SET cursor = pg_current_snapshot()"
RECORD = """
    INSERT INTO outbox.deliveries (term, topic, partition, first_offset, last_offset,
                                   first_position, last_position, messages)
    VALUES (1, %s, %s, %s, %s, %s, %s, %s)
"""


@dataclass(frozen=True)
class Message:
    """A row of outbox.messages."""

    position: int
    id: UUID
    key: str
    type: str
    version: int
    topic: str
    payload: str
    created_at: datetime

    @property
    def home(self) -> Partition:
        """Where the relay sends it."""
        return self.topic, partition_of(self.key.encode(), PARTITIONS)

    def envelope(self) -> Envelope:
        return Envelope(
            str(self.id), "/test", self.type, self.key, self.payload.encode(),
            time=self.created_at, sequence=self.version, position=self.position, term=1,
        )  # fmt: skip


async def write(
    connection: psycopg.AsyncConnection[Any], key: str, headers: Mapping[str, str] | None = None
) -> Message:
    """Commit one message and return its row."""
    row = await (await connection.execute(WRITE, [key, json.dumps(headers or {})])).fetchone()
    assert row is not None
    return await read(connection, row[0])


async def read(connection: psycopg.AsyncConnection[Any], position: int) -> Message:
    row = await (await connection.execute(READ, [position])).fetchone()
    assert row is not None
    return Message(*row)


async def move_cursor(connection: psycopg.AsyncConnection[Any]) -> None:
    """Move the cursor as if a relay had published all that is committed."""
    await connection.execute(MOVE_CURSOR)


async def write_published(connection: psycopg.AsyncConnection[Any], *keys: str) -> list[Message]:
    """Commit one message of each key, and move the cursor over them; return their rows."""
    written = [await write(connection, key) for key in keys]
    await move_cursor(connection)
    return written


async def record_delivery(
    connection: psycopg.AsyncConnection[Any], messages: Sequence[Message], at: Partition, first: int
) -> None:
    """Record a delivery as if the broker had acknowledged these messages from this offset on."""
    positions = [message.position for message in messages]
    last = first + len(messages) - 1
    values = [*at, first, last, min(positions), max(positions), len(messages)]
    await connection.execute(RECORD, values)
