"""Runner: receives messages, applies them and commits their offsets.

The records of a key are applied in order, and different keys side by side. The offset that is
committed is the lowest one that is not done; done means applied, or a dead letter in PostgreSQL. A
message may be applied twice, after a crash or by two members around a rebalance, so reactions must
be idempotent and fenced.
Weakness: a key whose store fails for long holds back its partition's offset, and, once
`in_flight_messages` are in memory, the whole partition.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import structlog

from consumers.dead_letters.redelivery import Redelivery
from consumers.dead_letters.store import DeadLetters
from consumers.runner.applier import Applier
from consumers.runner.failures import RetryBackoff, Stopped, retry_through_outages, wait_or_stop
from consumers.runner.loop_watchdog import LoopWatchdog
from consumers.runner.membership import Membership
from consumers.runner.reaction import Reaction
from consumers.runner.version_gaps import VersionGaps
from consumers.settings import Settings
from outbox.errors import Contention, DependencyDown

__all__ = ["Reaction", "Runner"]

log = structlog.get_logger()


class Runner:
    """Runs one reaction as a member of its consumer group, beside any number of others.

    `redelivery` is asked for dead letters that are to be tried again; without one, the consumer's
    own dead letters are.
    """

    def __init__(
        self, settings: Settings, reaction: Reaction, redelivery: Redelivery | None = None
    ) -> None:
        self._settings = settings
        self._reaction = reaction
        self._dead_letters = DeadLetters(settings, reaction.name)
        self._redelivery = redelivery or self._dead_letters
        self._applier = Applier(
            reaction,
            self._dead_letters,
            self._redelivery,
            settings.unexpected_error_attempts,
            VersionGaps(reaction.name, settings.gap_keys),
        )
        self.counts = self._applier.counts
        self.watchdog = LoopWatchdog(settings.session_timeout_milliseconds / 1000)
        self._backoff = RetryBackoff(
            settings.backoff_first_seconds, settings.backoff_longest_seconds
        )
        self._stopping = asyncio.Event()
        self._log = log.bind(consumer=reaction.name)

    def stop(self) -> None:
        """Make `run` finish what is being applied, commit it and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Consume until stopped, and wait through outages of every dependency.

        Raises Halted if the broker no longer holds the next record, because only an operator can
        decide what to do then.
        """
        try:
            async with self._dead_letters, _run_beside(self.watchdog.run()):
                await retry_through_outages(self._reaction.prepare, self._backoff, self._stopping)
                await self._stay_in_group()
        except Stopped:
            self._log.info("stopped while waiting")

    async def _stay_in_group(self) -> None:
        """Consume as a member; after a dependency failure leave the group, wait and join again."""
        waits = self._backoff.waits()
        while not self._stopping.is_set():
            began = monotonic()
            try:
                await self._consume()
            except (DependencyDown, Contention) as error:
                if monotonic() - began > self._backoff.longest_seconds:
                    waits = self._backoff.waits()  # it worked in between
                self._log.warning("left the group", error=str(error)[:300])
                await wait_or_stop(next(waits), self._stopping)

    async def _consume(self) -> None:
        async with Membership(
            self._settings, self._reaction, self._applier, self._redelivery, self._stopping
        ) as membership:
            self._log.info("consuming", topics=self._reaction.topics)
            while not self._stopping.is_set():
                await membership.turn()


@asynccontextmanager
async def _run_beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` for the length of the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
