"""Stream: sends versions of some keys to a topic, a few at a time, until it is stopped."""

import asyncio
from typing import Self

from consumers.settings import Settings
from outbox.kafka import Publisher, Record
from schemas.envelope import Envelope
from schemas.wire import encode
from tests.kit.consumers.effects import REFUSED
from tests.kit.verdicts.history import TOPIC, Happened

GOOD, BAD = 12, 3
AT_ONCE = 5


def event(key: str, version: int) -> Envelope:
    return Envelope(
        id=f"{key}@{version}",
        source="/faults",
        type=Happened.type,
        key=key,
        payload=Happened(thing=key).payload(),
        sequence=version,
    )


class Stream:
    """`async with` sends; `sent` is what the broker has acknowledged, in order."""

    def __init__(self, settings: Settings, pause_seconds: float, *, bad: bool = False) -> None:
        self.sent: list[Envelope] = []
        self._settings = settings
        self._pause_seconds = pause_seconds
        self._keys = [f"key{n}" for n in range(GOOD)]
        self._keys += [f"{REFUSED}{n}" for n in range(BAD if bad else 0)]
        self._stopping = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop, and return when the broker has acknowledged everything that was sent."""
        self._stopping.set()
        assert self._sending is not None
        await self._sending

    async def _send(self) -> None:
        async with Publisher(self._settings.kafka_url, 30.0) as publisher:
            number = 0
            while not self._stopping.is_set():
                events = [self._next(number + more) for more in range(AT_ONCE)]
                await publisher.send(
                    Record(number, TOPIC, *encode(envelope)) for envelope in events
                )
                self.sent += events
                number += AT_ONCE
                await asyncio.sleep(self._pause_seconds)

    def _next(self, number: int) -> Envelope:
        version, place = divmod(number, len(self._keys))
        return event(self._keys[place], version + 1)
