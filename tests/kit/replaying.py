"""Replaying: what tests of replays share: messages on a topic, and what a replay adds to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from consumers.settings import Settings
from outbox.kafka.reader import Reader
from outbox.operations import Operation
from outbox.relay.relay import Relay
from outbox.replay.replayer import Replayer
from outbox.replay.requests import Replay, find, start
from outbox.replay.source import ReplayPreview, ReplaySelection, preview_replay
from outbox.status import read_status
from schemas.envelope import Envelope
from schemas.wire import decode
from tests.kit.load.roles import running
from tests.kit.waiting import until

Connection = psycopg.AsyncConnection[Any]

LONG = 60
FAST = 1_000_000.0  # messages a second: as fast as it goes
TOPIC = "test.note.events"
PUBLISH = """
SELECT outbox.publish('test.note', 'k' || n %% %(keys)s, 'test.noted.v' || 1 + n / %(keys)s %% 2,
                      jsonb_build_object('n', n))
FROM generate_series(0, %(messages)s - 1) AS n
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as a reader of the topic gets it."""

    partition: int
    offset: int
    envelope: Envelope
    headers: dict[str, bytes]
    timestamp_milliseconds: int

    @property
    def is_replayed(self) -> bool:
        return "replay" in self.headers


async def publish(connection: Connection, messages: int, keys: int = 10) -> None:
    """In one transaction; the keys take turns, and two types from version to version."""
    await connection.execute(PUBLISH, {"messages": messages, "keys": keys})


async def relayed(settings: Settings, connection: Connection) -> None:
    """All that is committed is on its topic."""

    async def nothing_is_pending() -> bool:
        return (await read_status(connection)).pending == 0

    async with running(Relay(settings)):
        await until(nothing_is_pending, LONG)


async def recorded(
    connection: Connection,
    selection: ReplaySelection | None = None,
    consumer: str | None = None,
    rate: float = FAST,
    reason: str = "a test",
) -> Replay:
    """A replay that is started and not run."""
    selection = selection or ReplaySelection()
    operation = Operation("somebody", "replay start", "notes", reason)
    found = await counted(connection, selection)
    return await start(connection, selection, found, consumer, rate, operation)


async def counted(connection: Connection, selection: ReplaySelection) -> ReplayPreview:
    return await preview_replay(connection, selection, lambda _done, _of: None)


async def replayed(settings: Settings, connection: Connection, replay: Replay) -> Replay:
    """Run it to its end."""
    await Replayer(settings, replay.id).run()
    return await find(connection, replay.id)


async def on_topic(settings: Settings, topic: str = TOPIC) -> list[Seen]:
    """Everything that the topic holds, of each partition in the order of its offsets."""
    seen: list[Seen] = []
    async with Reader(settings.kafka_url, [topic], 30.0) as reader:
        async for (_, partition), records in reader.read(await reader.read_ranges()):
            seen += [_seen(partition, record) for record in records]
    return seen


def _seen(partition: int, record: Any) -> Seen:
    envelope = decode(record.key, record.value, record.headers)
    return Seen(partition, record.offset, envelope, dict(record.headers), record.timestamp)


def said_again(seen: Sequence[Seen]) -> list[tuple[str, int]]:
    """Key and version of what was replayed, sorted."""
    return sorted(
        (each.envelope.key, each.envelope.sequence or 0) for each in seen if each.is_replayed
    )


async def times(connection: Connection) -> list[datetime]:
    rows = await connection.execute("SELECT created_at FROM outbox.messages ORDER BY position")
    return [time for (time,) in await rows.fetchall()]
