"""What tests of replays share: messages on a topic, and what a replay adds to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from consumers.settings import Settings
from outbox.kafka.reader import Reader
from outbox.operations import Operation
from outbox.replay.replayer import Replayer
from outbox.replay.requests import Replay, find, start
from outbox.replay.source import ReplayPreview, ReplaySelection, preview_replay
from schemas.envelope import Envelope
from schemas.wire import decode
from tests.kit.load.relaying import relay_all
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


MESSAGES = 60
KEYS = 10
ALL = [(f"k{n % KEYS}", n // KEYS + 1) for n in range(MESSAGES)]  # each key with each version


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


def why(action: str = "replay") -> Operation:
    """An operation with an operator and a reason."""
    return Operation("somebody", action, "notes", "a test")


async def publish(connection: Connection, messages: int, keys: int = KEYS) -> None:
    """Publish so many in one transaction. The keys take turns, and versions of a key two types."""
    await connection.execute(PUBLISH, {"messages": messages, "keys": keys})


async def publish_and_relay(
    settings: Settings, connection: Connection, messages: int = MESSAGES
) -> None:
    """Publish so many messages, and run a relay until they are on the topic."""
    await publish(connection, messages)
    await relay_all(settings, connection)


async def record_replay(
    connection: Connection,
    selection: ReplaySelection | None = None,
    consumer: str | None = None,
    rate: float = FAST,
    reason: str = "a test",
) -> Replay:
    """Record a replay, which is not run yet."""
    selection = selection or ReplaySelection()
    operation = Operation("somebody", "replay start", "notes", reason)
    found = await preview(connection, selection)
    return await start(connection, selection, found, consumer, rate, operation)


async def preview(connection: Connection, selection: ReplaySelection) -> ReplayPreview:
    return await preview_replay(connection, selection, lambda _done, _of: None)


async def run_replay(settings: Settings, connection: Connection, replay: Replay) -> Replay:
    """Run it until it ends, is paused or cancelled; return what it is then."""
    await Replayer(settings, replay.id).run()
    return await find(connection, replay.id)


async def replay_now(
    settings: Settings,
    connection: Connection,
    selection: ReplaySelection | None = None,
    consumer: str | None = None,
) -> Replay:
    """Record a replay and run it; return what it is then."""
    return await run_replay(
        settings, connection, await record_replay(connection, selection, consumer)
    )


async def wait_until_some_are_sent(connection: Connection, replay: Replay) -> None:
    """Wait until a replay that is running has sent its first messages."""

    async def some_are_sent() -> bool:
        return (await find(connection, replay.id)).sent > 0

    await until(some_are_sent, LONG)


async def read_topic(settings: Settings, topic: str = TOPIC) -> list[Seen]:
    """Return everything that the topic holds, of each partition in the order of its offsets."""
    seen: list[Seen] = []
    async with Reader(settings.kafka_url, [topic], 30.0) as reader:
        async for (_, partition), records in reader.read(await reader.read_ranges()):
            seen += [_seen(partition, record) for record in records]
    return seen


def _seen(partition: int, record: Any) -> Seen:
    envelope = decode(record.key, record.value, record.headers)
    return Seen(partition, record.offset, envelope, dict(record.headers), record.timestamp)


def list_replayed(seen: Sequence[Seen]) -> list[tuple[str, int]]:
    """Return key and version of each replayed record, sorted."""
    return sorted(
        (each.envelope.key, each.envelope.sequence or 0) for each in seen if each.is_replayed
    )


async def read_replayed(settings: Settings) -> list[tuple[str, int]]:
    """Return key and version of each replayed record on the topic, sorted."""
    return list_replayed(await read_topic(settings))


async def read_times(connection: Connection) -> list[datetime]:
    rows = await connection.execute("SELECT created_at FROM outbox.messages ORDER BY position")
    return [time for (time,) in await rows.fetchall()]
