"""Rebuild: a generation of a projection made anew beside the live one, and then put in its place.

1. *Filling.* The generation is made. A follower applies to it whatever comes to the topics from now
   on; then a check of it against the heads finds what it lacks, all of it at first, and repair
   brings the latest messages over from the outbox. Again, until a check finds nothing.
2. *Switching.* Once the follower has applied what the topics hold, the generation becomes the live
   one, in one moment.
3. *Settling.* A consumer that had found the former generation live may still write into it; what it
   writes was in the topics before the switch. So the follower goes on to the topics' ends as of
   after it, and a last check finds nothing.

Why no message is lost: one that was committed before a check's heads were read is in the heads; one
that comes later comes to the topics, behind the place where the follower began. Both apply fenced.

Nothing needs a checkpoint. Killed anywhere, it is done again from the beginning of its phase, and a
check finds only what is still missing. A rollback is the same into the former generation, which is
merely stale; and so is a change of the embedding model, into a generation of that model.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat
from typing import Any

import psycopg
import structlog

from consumers.drift.check import Care, Drift, OnProgress, open_check
from consumers.drift.repair import Repaired, RepairLimits, repair
from consumers.projections.generations import Generation, Generations
from consumers.projections.projection import Projection
from consumers.rebuild import journal
from consumers.rebuild.follower import Follower, follow
from consumers.rebuild.journal import Phase, Rebuild
from consumers.rebuild.serialized import SerializedProjection
from consumers.runner.failures import RetryBackoff, retry_through_outages
from consumers.settings import Settings
from outbox.errors import DependencyDown, Halted, translate_errors
from outbox.operations import Operation
from outbox.postgres.connection import connect_command, is_refused
from outbox.runtime.failpoints import Failpoint, failpoint

log = structlog.get_logger()

NAMED_KEYS = 5
KEPT_SECONDS = 1.0  # how often the row says how far it is

Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class RebuildRequest:
    """What a person wants: `operation.action` is `rebuild` or `rollback`, of its subject.

    `model`: of the vectors; None for the live one's. `keys_per_second`: None for as fast as it
    goes. `allow_left`: so many keys may differ at parity, if no message of theirs can be applied.
    `now`: a rollback that switches first, and repairs afterwards.
    """

    operation: Operation
    care: Care
    model: str | None = None
    keys_per_second: float | None = None
    allow_left: int = 0
    now: bool = False


async def rebuild(
    settings: Settings,
    generations: Generations,
    asked: RebuildRequest,
    on_progress: OnProgress = lambda *_: None,
) -> Rebuild:
    """Carry it out, or go on with the one that is open.

    Raises Halted where another process does, where what is open is something else, or where keys
    cannot be brought over, which it names; DependencyDown where a server is away. Then the same
    call goes on.
    """
    with translate_errors():
        async with (
            await connect_command(settings, "rebuild") as state,
            await connect_command(settings, "rebuild") as work,
        ):
            await journal.take_lock(state, generations.name)
            await generations.prepare()
            row = await _open_or_begin(state, generations, asked)
            return await _Rebuilding(
                settings, generations, asked, state, work, row, on_progress
            ).run()


async def rebuild_through_outages(
    settings: Settings,
    generations: Generations,
    asked: RebuildRequest,
    on_progress: OnProgress = lambda *_: None,
) -> Rebuild:
    """The same, again for as long as a server is away: nothing is lost but the time of a check.

    Halted where PostgreSQL does not take this client: that passes only when somebody sees to it.
    """
    done: list[Rebuild] = []

    async def attempt() -> None:
        try:
            done.append(await rebuild(settings, generations, asked, on_progress))
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
    """Remove a generation, and end a rebuild into it; Halted where it is live, or not there."""
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


async def _open_or_begin(
    state: Connection, generations: Generations, asked: RebuildRequest
) -> Rebuild:
    """The open one, which must be what is asked for, or a new one."""
    generations.require_model(asked.model)
    existing = await generations.list_generations()
    live = _live_of(generations, existing)
    latest = await journal.find_latest(state, generations.name)
    if latest is not None and latest.is_open and _goes_on(latest, asked, live):
        log.info("rebuild goes on", phase=latest.phase, generation=latest.generation)
        return latest
    if asked.operation.action == "rollback":
        number = _target(latest, existing, live)
    else:
        last = await journal.last_number(state, generations.name)
        number = 1 + max(last, *(each.number for each in existing))
    if latest is not None and latest.is_open:
        await journal.enter(state, latest, Phase.ABANDONED, latest.brought)
    return await journal.begin(state, asked.operation, number, live, asked.model)


def _goes_on(latest: Rebuild, asked: RebuildRequest, live: int) -> bool:
    """Whether the open one is what is asked for; if not, it is to be one that a rollback ends."""
    if latest.action == asked.operation.action and asked.model in (None, latest.model):
        return True
    if asked.operation.action == "rollback" and latest.generation == live:
        return False
    raise Halted(
        f"a {latest.action} into generation {latest.generation} of {latest.projection} is open: "
        "go on with it, or drop that generation"
    )


def _live_of(generations: Generations, existing: list[Generation]) -> int:
    """The number of the live one; Halted where what is live is none of our generations."""
    for each in existing:
        if each.live:
            return each.number
    raise Halted(
        f"{generations.name} has no live generation of ours: what readers are sent to was made by "
        "another program; send them back to one of `python -m consumers rebuild status`"
    )


def _describe_keys(done: Repaired) -> Iterator[str]:
    """What a repair has left, and why."""
    yield from (f"{stream.key}: {why}" for stream, why in done.left.items())
    yield from (f"foreign {each.place}: {each.why}" for each in done.foreign)


def _target(latest: Rebuild | None, existing: list[Generation], live: int) -> int:
    """The generation that was live before the last switch."""
    there = {each.number for each in existing if each.foreign is None}
    if latest is None or latest.generation != live or latest.former not in there:
        raise Halted("there is no former generation to go back to")
    return latest.former


class _Rebuilding:
    """One run of one rebuild. `state` holds the lock; `work` reads heads and messages."""

    def __init__(
        self,
        settings: Settings,
        generations: Generations,
        asked: RebuildRequest,
        state: Connection,
        work: Connection,
        row: Rebuild,
        on_progress: OnProgress,
    ) -> None:
        self._settings = settings
        self._generations = generations
        self._asked = asked
        self._state = state
        self._work = work
        self._row = row
        self._report = on_progress
        self._brought = row.brought
        self._log = log.bind(projection=generations.name, generation=row.generation)

    async def run(self) -> Rebuild:
        failpoint(Failpoint.REBUILD_OPENED)
        made = await self._generations.create(self._row.generation, self._row.model)
        shadow = SerializedProjection(made)
        failpoint(Failpoint.GENERATION_MADE)
        async with follow(self._settings, shadow) as follower, self._keeping():
            if self._row.phase is not Phase.SETTLING:
                if not self._asked.now:
                    await self._to_parity(shadow, follower)
                    await follower.caught_up()
                await self._switch()
            await follower.caught_up()
            await self._to_parity(shadow, follower)
        await self._enter(Phase.DONE)
        return self._row

    async def _switch(self) -> None:
        """The lock is ours still, or the row could not be written just before."""
        await self._enter(Phase.SWITCHING)
        failpoint(Failpoint.PARITY_REACHED)
        await self._generations.switch(self._row.generation)
        failpoint(Failpoint.SWITCHED)
        await self._enter(Phase.SETTLING)

    async def _to_parity(self, shadow: Projection, follower: Follower) -> None:
        """Check and bring over, until a check finds nothing.

        The first check waits for nothing that may be under way: most of what it finds is not.
        """
        for care in chain(
            [replace(self._asked.care, patience_seconds=0)], repeat(self._asked.care)
        ):
            follower.require()
            async with open_check(self._work, shadow, care, self._report) as drift:
                self._row = await journal.record_check(
                    self._state, self._row, drift.whole, drift.keys, self._brought
                )
                self._log.info("checked", keys=drift.whole, differing=drift.keys)
                if drift.keys == 0 or self._may_be_left(drift, await self._bring(shadow, drift)):
                    return

    async def _bring(self, shadow: Projection, drift: Drift) -> Repaired:
        before = self._brought

        def on_progress(done: int, whole: int) -> None:
            self._brought = before + done
            self._report(done, whole)
            failpoint(Failpoint.KEYS_BROUGHT)

        limits = RepairLimits(max_share=1.0, keys_per_second=self._asked.keys_per_second)
        asked = self._asked.operation
        operation = Operation(asked.operator, f"{asked.action} fill", asked.subject, asked.reason)
        return await repair(self._work, shadow, drift, limits, operation, on_progress)

    def _may_be_left(self, drift: Drift, done: Repaired) -> bool:
        """Whether only keys are left of which no message can be applied, and few enough."""
        if done.failed > self._asked.allow_left:
            named = "; ".join(islice(_describe_keys(done), NAMED_KEYS))
            raise Halted(
                f"{done.failed:,} keys cannot be brought over to generation "
                f"{self._row.generation} of {self._row.projection} ({named[:1_000]}): repair them, "
                f"or allow it with `--allow-left {done.failed}`; then run the same command again"
            )
        return done.failed == drift.keys

    async def _enter(self, phase: Phase) -> None:
        self._row = await journal.enter(self._state, self._row, phase, self._brought)
        self._log.info("rebuild", phase=phase)

    @asynccontextmanager
    async def _keeping(self) -> AsyncIterator[None]:
        """The row says how far it is, for whoever asks from elsewhere."""

        async def keep() -> None:
            while True:
                await asyncio.sleep(KEPT_SECONDS)
                await journal.keep(self._state, self._row, self._brought)

        task = asyncio.create_task(keep())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, psycopg.Error):
                await task
