"""What the tests of consumer groups share: a reaction that can be held, and waits for results."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg

from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.kafka import Publisher, Record, count_unread
from schemas.envelope import Envelope
from schemas.wire import encode
from tests.kit.consumers.effects import Effects, Verdict, verdict
from tests.kit.load.roles import running
from tests.kit.verdicts.history import TOPIC
from tests.kit.waiting import until

WITHIN_SECONDS = 90.0
OPTIONS = json.dumps({"batch": 20, "refuses": False})
Connection = psycopg.AsyncConnection[Any]


class Held(Effects):
    """Holds every message until `go`; `began` and `ended` are the ids in the order it saw them."""

    def __init__(self, settings: Settings, name: str) -> None:
        super().__init__(settings.libpq_url(), name, TOPIC, refuses=False)
        self.go = asyncio.Event()
        self.began: list[str] = []
        self.ended: list[str] = []

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        self.began += [envelope.id for envelope in envelopes]
        await self.go.wait()
        await super().apply(envelopes)
        self.ended += [envelope.id for envelope in envelopes]

    async def holds(self, count: int = 1) -> bool:
        return len(self.began) >= count


async def send(settings: Settings, *events: Envelope) -> None:
    async with Publisher(settings.kafka_url, 30.0) as publisher:
        await publisher.send(Record(0, TOPIC, *encode(envelope)) for envelope in events)


def is_right(
    connection: Connection, name: str, sent: Sequence[Envelope]
) -> Callable[[], Awaitable[bool]]:
    async def right() -> bool:
        found = await verdict(connection, name, sent)
        assert not found.doubled, str(found)
        return found.right

    return right


async def settled(connection: Connection, name: str, sent: Sequence[Envelope]) -> Verdict:
    """Wait until everything is done, and nothing twice; AssertionError if that takes too long."""
    try:
        await until(is_right(connection, name, sent), WITHIN_SECONDS, 0.3)
    except TimeoutError:
        raise AssertionError(f"{name}: {await verdict(connection, name, sent)}") from None
    return await verdict(connection, name, sent)


async def committed(settings: Settings, name: str) -> bool:
    return await count_unread(settings.kafka_url, f"aftercommit.{name}", [TOPIC]) == 0


async def consume(settings: Settings, effects: Effects, events: Sequence[Envelope]) -> None:
    """Send the events and run a consumer until it has committed all of them."""
    async with running(Runner(settings, effects)):
        await send(settings, *events)
        await until(lambda: committed(settings, effects.name), WITHIN_SECONDS)
