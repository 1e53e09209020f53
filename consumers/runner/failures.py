"""Which failures wait, which become dead letters at once, and which get another attempt first."""

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
    StoreUnfit,
)

log = structlog.get_logger()


class Failure(Enum):
    """What happens next with a message whose reaction raised.

    DONE: it was handled before and counts as applied. DEPENDENCY: it waits and spends no attempt.
    MESSAGE: it is a dead letter at once. HALT: the consumer stops, because no message is at fault
    and only an operator can repair what the error names. UNEXPECTED: it gets a bounded number of
    attempts and then is a dead letter.
    """

    DONE = "done"
    DEPENDENCY = "dependency"
    MESSAGE = "message"
    HALT = "halt"
    UNEXPECTED = "unexpected"


def classify(error: Exception) -> Failure:
    """Return what this error means for its message; any error that is not known is UNEXPECTED."""
    if isinstance(error, AlreadyHandled):
        return Failure.DONE
    if isinstance(error, DependencyDown | Contention):
        return Failure.DEPENDENCY
    if isinstance(error, Halted | StoreUnfit | SchemaBehind):
        return Failure.HALT
    return Failure.MESSAGE if isinstance(error, MessageRejected) else Failure.UNEXPECTED


class Stopped(Exception):
    """The process was asked to stop while it waited; nothing of this message was committed."""


@dataclass(frozen=True, slots=True)
class RetryBackoff:
    """Waits that double from `first_seconds` to `longest_seconds`, each with half of it jitter."""

    first_seconds: float
    longest_seconds: float

    def waits(self) -> Iterator[float]:
        """Yield the seconds of each wait of one series, without end."""
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
    """Run `work` until it meets no dependency failure.

    Raises Stopped if the process is asked to stop meanwhile, and every other error of `work`.
    """
    waits = backoff.waits()
    while True:
        try:
            return await work()
        except (DependencyDown, Contention) as error:
            wait = next(waits)
            log.warning("waiting for a dependency", error=str(error), seconds=round(wait, 2))
            await wait_or_stop(wait, stopping)
