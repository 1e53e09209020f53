"""Which failures wait, which are dead letters, and which get another chance first."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import structlog

from outbox.errors import (
    AlreadyHandled,
    Contention,
    DependencyDown,
    Halted,
    MessageRejected,
    SchemaBehind,
)

log = structlog.get_logger()


class Failure(Enum):
    """What happens next with a message whose reaction raised."""

    DONE = "done"
    WORLD = "world"
    MESSAGE = "message"
    HALT = "halt"
    SURPRISE = "surprise"


def classify(error: Exception) -> Failure:
    """DONE: it was handled before. WORLD: wait, spend no attempt. MESSAGE: dead letter at once.

    HALT: only a person can repair what it names, and no message is at fault: the consumer stops.
    SURPRISE: anything else; a bounded number of attempts, then a dead letter.
    """
    if isinstance(error, AlreadyHandled):
        return Failure.DONE
    if isinstance(error, DependencyDown | Contention):
        return Failure.WORLD
    if isinstance(error, Halted | SchemaBehind):
        return Failure.HALT
    return Failure.MESSAGE if isinstance(error, MessageRejected) else Failure.SURPRISE


class Stopped(Exception):
    """The process was asked to stop while it waited; nothing of this message was committed."""


@dataclass(frozen=True, slots=True)
class RetryBackoff:
    """Waits that double from `first_seconds` to `longest_seconds`, each with half of it jitter."""

    first_seconds: float
    longest_seconds: float

    def waits(self) -> Iterator[float]:
        wait = self.first_seconds
        while True:
            yield wait * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
            wait = min(wait * 2, self.longest_seconds)


async def wait_or_stop(seconds: float, stopping: asyncio.Event) -> None:
    """Wait, or raise Stopped as soon as the process is asked to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
    raise Stopped


async def retry_through_outages(
    work: Callable[[], Awaitable[None]], backoff: RetryBackoff, stopping: asyncio.Event
) -> None:
    """Run `work`, and again for as long as the world is broken; other errors pass."""
    waits = backoff.waits()
    while True:
        try:
            return await work()
        except (DependencyDown, Contention) as error:
            wait = next(waits)
            log.warning("waiting for a dependency", error=str(error), seconds=round(wait, 2))
            await wait_or_stop(wait, stopping)
