"""Rebuild: make a generation of a projection anew beside the live one, and put it in its place.

1. *Filling.* The generation is made. A follower applies to it whatever comes to the topics from now
   on. Then a check against the heads finds what the generation lacks, which is everything at first,
   and repair brings the latest messages over from the outbox. This repeats until a check finds
   nothing.
2. *Switching.* Once the follower has applied what the topics hold, the generation becomes the live
   one, in one moment.
3. *Settling.* A consumer that had found the former generation live may still write into it. What it
   writes was in the topics before the switch. So the follower goes on to the topics' ends as they
   are after the switch, and a last check finds nothing.

Why no message is lost: a message that was committed before a check read the heads is in the heads;
a later message comes to the topics, behind the place where the follower began. Both are applied
fenced.

Nothing needs a checkpoint. A rebuild that is killed starts again at the beginning of its phase, and
a check finds only what is still missing. A rollback does the same with the former generation, which
is merely stale; a change of the embedding model does it with a generation of that model.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import chain, islice, repeat
from typing import Any

import psycopg
import structlog

from consumers.drift.check import Drift, open_check
from consumers.drift.repair import RepairCounts, RepairLimits, repair
from consumers.projections.generations import Generations
from consumers.projections.projection import Projection
from consumers.rebuild import journal
from consumers.rebuild.follower import Follower, follow
from consumers.rebuild.journal import Phase, Rebuild
from consumers.rebuild.request import RebuildRequest, open_or_begin
from consumers.rebuild.serialized import SerializedProjection
from consumers.runner.failures import RetryBackoff, retry_through_outages
from consumers.settings import Settings
from outbox.errors import DependencyDown, Halted, translate_errors
from outbox.operations import Operation
from outbox.postgres.connection import connect_command, is_refused
from outbox.runtime.failpoints import Failpoint, failpoint
from outbox.runtime.progress import OnProgress, ignore_progress

log = structlog.get_logger()

NAMED_KEYS = 5
PROGRESS_SECONDS = 1.0  # how often the row gets the number of keys brought over

Connection = psycopg.AsyncConnection[Any]


async def rebuild(
    settings: Settings,
    generations: Generations,
    request: RebuildRequest,
    on_progress: OnProgress = ignore_progress,
) -> Rebuild:
    """Carry the request out, or go on with the open rebuild; return its row once it is done.

    Raises Halted where another process rebuilds, where the open rebuild is not what is asked for,
    or where keys cannot be brought over, which it names. Raises DependencyDown where a server is
    away. After either, the same call goes on.
    """
    with translate_errors():
        async with (
            await connect_command(settings, "rebuild") as state,
            await connect_command(settings, "rebuild") as work,
        ):
            await journal.take_lock(state, generations.name)
            await generations.prepare()
            row = await open_or_begin(state, generations, request)
            return await _RebuildRun(
                settings, generations, request, state, work, row, on_progress
            ).run()


async def rebuild_through_outages(
    settings: Settings,
    generations: Generations,
    request: RebuildRequest,
    on_progress: OnProgress = ignore_progress,
) -> Rebuild:
    """Call `rebuild`, and call it again after each outage: that costs only the time of a check.

    Raises Halted where PostgreSQL refuses this client: an operator must see to that.
    """
    done: list[Rebuild] = []

    async def attempt() -> None:
        try:
            done.append(await rebuild(settings, generations, request, on_progress))
        except DependencyDown as error:
            if is_refused(error):
                raise Halted(str(error)) from error
            raise

    backoff = RetryBackoff(settings.backoff_first_seconds, settings.backoff_longest_seconds)
    await retry_through_outages(attempt, backoff, asyncio.Event())
    return done[0]


async def drop(
    settings: Settings, generations: Generations, number: int, operation: Operation
) -> None:
    """Remove a generation, and end a rebuild into it.

    Raises Halted where it is live, does not exist, or was made by another program.
    """
    operation.require_reason()
    operation.details["generation"] = number
    with translate_errors():
        async with await connect_command(settings, "rebuild") as state:
            await journal.take_lock(state, generations.name)
            existing = await generations.list_generations()
            for each in existing:
                if each.number == number and each.foreign is not None:
                    raise Halted(f"{each.foreign}: whoever made it may remove it")
            there = {each.number: each.live for each in existing}
            if there.get(number):
                raise Halted(f"generation {number} of {generations.name} is live: switch first")
            async with state.transaction():
                await operation.record(state)
                ended = await journal.end_open(state, generations.name, number)
            if number in there:
                await generations.drop(number)
            elif not ended:
                raise Halted(f"{generations.name} has no generation {number}")


def _describe_keys(done: RepairCounts) -> Iterator[str]:
    """The keys and foreign entries that a repair has left, each with the reason."""
    yield from (f"{stream.key}: {why}" for stream, why in done.left.items())
    yield from (f"foreign {each.place}: {each.why}" for each in done.foreign)


class _RebuildRun:
    """One run of one rebuild. `state` has the lock; `work` reads heads and messages."""

    def __init__(
        self,
        settings: Settings,
        generations: Generations,
        request: RebuildRequest,
        state: Connection,
        work: Connection,
        row: Rebuild,
        on_progress: OnProgress,
    ) -> None:
        self._settings = settings
        self._generations = generations
        self._request = request
        self._state = state
        self._work = work
        self._row = row
        self._on_progress = on_progress
        self._brought = row.brought
        self._log = log.bind(projection=generations.name, generation=row.generation)

    async def run(self) -> Rebuild:
        """Bring the generation to parity, switch to it, settle, and return the row."""
        failpoint(Failpoint.REBUILD_OPENED)
        made = await self._generations.create(self._row.generation, self._row.model)
        shadow = SerializedProjection(made)
        failpoint(Failpoint.GENERATION_MADE)
        async with follow(self._settings, shadow) as follower, self._saving_progress():
            if self._row.phase is not Phase.SETTLING:
                if not self._request.now:
                    await self._bring_to_parity(shadow, follower)
                    await follower.wait_until_caught_up()
                await self._switch()
            await follower.wait_until_caught_up()
            await self._bring_to_parity(shadow, follower)
        await self._enter_phase(Phase.DONE)
        return self._row

    async def _switch(self) -> None:
        """Switch right after writing the row, which proves that the lock is still ours."""
        await self._enter_phase(Phase.SWITCHING)
        failpoint(Failpoint.PARITY_REACHED)
        await self._generations.switch(self._row.generation)
        failpoint(Failpoint.SWITCHED)
        await self._enter_phase(Phase.SETTLING)

    async def _bring_to_parity(self, shadow: Projection, follower: Follower) -> None:
        """Check and bring keys over, until a check finds nothing.

        The first check has no patience: most of what it finds is missing, and not under way.
        """
        for options in chain(
            [replace(self._request.options, patience_seconds=0)], repeat(self._request.options)
        ):
            follower.raise_if_failed()
            async with open_check(self._work, shadow, options, self._on_progress) as drift:
                self._row = await journal.record_check(
                    self._state, self._row, drift.whole, drift.keys, self._brought
                )
                self._log.info("checked", keys=drift.whole, differing=drift.keys)
                if drift.keys == 0 or self._may_be_left(
                    drift, await self._bring_over(shadow, drift)
                ):
                    return

    async def _bring_over(self, shadow: Projection, drift: Drift) -> RepairCounts:
        """Repair what a check found, however much it is."""
        before = self._brought

        def on_progress(done: int, whole: int) -> None:
            self._brought = before + done
            self._on_progress(done, whole)
            failpoint(Failpoint.KEYS_BROUGHT)

        limits = RepairLimits(max_share=1.0, keys_per_second=self._request.keys_per_second)
        by = self._request.operation
        operation = Operation(by.operator, f"{by.action} fill", by.subject, by.reason)
        return await repair(self._work, shadow, drift, limits, operation, on_progress)

    def _may_be_left(self, drift: Drift, done: RepairCounts) -> bool:
        """Whether only keys are left whose messages cannot be applied.

        Raises Halted where more of them are left than the request allows.
        """
        if done.failed > self._request.allow_left:
            named = "; ".join(islice(_describe_keys(done), NAMED_KEYS))
            raise Halted(
                f"{done.failed:,} keys cannot be brought over to generation "
                f"{self._row.generation} of {self._row.projection} ({named[:1_000]}): repair them, "
                f"or allow it with `--allow-left {done.failed}`; then run the same command again"
            )
        return done.failed == drift.keys

    async def _enter_phase(self, phase: Phase) -> None:
        self._row = await journal.enter_phase(self._state, self._row, phase, self._brought)
        self._log.info("rebuild", phase=phase)

    @asynccontextmanager
    async def _saving_progress(self) -> AsyncIterator[None]:
        """Save the progress again and again inside the block, for readers in other processes."""

        async def save() -> None:
            while True:
                await asyncio.sleep(PROGRESS_SECONDS)
                await journal.save_progress(self._state, self._row, self._brought)

        task = asyncio.create_task(save())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, psycopg.Error):
                await task
