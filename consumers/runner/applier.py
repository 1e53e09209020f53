"""Applier: one attempt at one message or batch, and what its failure means.

Three classes (consumers/runner/failures.py): the world is broken, this message is broken, a
surprise. Here stands the one broad `except`: whatever a reaction raises is one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import structlog

from consumers.dead_letters.redelivery import Redelivery
from consumers.dead_letters.store import DeadLetter, DeadLetters
from consumers.runner.failures import Failure, classify
from consumers.runner.key_queues import list_envelopes
from consumers.runner.reaction import Reaction
from consumers.runner.version_gaps import VersionGaps
from consumers.runner.work_item import WorkItem, read_work_item
from outbox.errors import Contention, DependencyDown, MessageRejected, to_outbox_error
from outbox.runtime.failpoints import Failpoint, failpoint, while_waiting

log = structlog.get_logger()

TOLD_CHARACTERS = 300


class AttemptOutcome(Enum):
    """What has become of a unit.

    APPLIED and BURIED are final, and durable: it was applied, or it is a dead letter or waits
    behind one. WORLD and SURPRISE leave it as it was; a surprise has spent an attempt. AGAIN leaves
    it, too: a letter of its key, which comes before it, was settled instead.
    """

    APPLIED = "applied"
    BURIED = "buried"
    WORLD = "world"
    SURPRISE = "surprise"
    AGAIN = "again"


@dataclass(slots=True)
class AppliedCounts:
    """What a runner has done since it started."""

    applied: int = 0
    dead_letters: int = 0
    waiting: int = 0
    gaps: int = 0


class Applier:
    """Knows the parked keys of one consumer; its caller keeps the order of each key."""

    def __init__(
        self,
        reaction: Reaction,
        dead_letters: DeadLetters,
        redelivery: Redelivery,
        unexpected_error_attempts: int,
        gaps: VersionGaps | None = None,
    ) -> None:
        self.counts = AppliedCounts()
        self._reaction = reaction
        self._dead_letters = dead_letters
        self._redelivery = redelivery
        self._gaps = gaps or VersionGaps(reaction.name, keys=0)
        self._attempts = unexpected_error_attempts
        self._parked: set[str] = set()
        self._log = log.bind(consumer=reaction.name)

    async def load_parked(self) -> None:
        """Learn which keys wait, also from members that had our partitions before us."""
        self._parked = await self._dead_letters.parked()

    def apart(self, task: WorkItem) -> bool:
        """Whether it must not be in a batch with others."""
        broken = isinstance(task.content, MessageRejected)
        return broken or task.retried is not None or task.stream in self._parked

    async def attempt(self, tasks: Sequence[WorkItem], number: int) -> AttemptOutcome:
        """Apply them at once; `number` counts the attempts at a single one, from 1 on.

        A batch that fails leaves open which of it were applied: its messages are to be attempted
        one by one, so that only the culprit suffers.
        """
        try:
            if len(tasks) == 1:
                return await self._attempt_one(tasks[0], number)
            error = await self._try(tasks)
        except (DependencyDown, Contention) as away:
            return self._world(away)
        return AttemptOutcome.SURPRISE if error else AttemptOutcome.APPLIED

    async def _attempt_one(self, task: WorkItem, number: int) -> AttemptOutcome:
        if task.is_for_another(self._reaction.name):
            return AttemptOutcome.APPLIED  # before it could wait: it is nothing to this consumer
        parked = task.stream if task.stream in self._parked else None
        stream = task.retried.stream if task.retried else parked
        if stream is None:
            return await self._attempt_now(task, number)
        return await self._attempt_in_turn(task, stream, number)

    async def _attempt_in_turn(self, task: WorkItem, stream: str, number: int) -> AttemptOutcome:
        """After the open letters of its key, of which the first is settled here.

        If messages that come while letters are redone waited behind those, as behind a dead one, a
        key that never falls silent would be parked for ever.
        """
        first = await self._redelivery.first(stream)
        if first is None:
            self._parked.discard(stream)
            return AttemptOutcome.APPLIED if task.retried else await self._attempt_now(task, number)
        if first.retried is None:
            return AttemptOutcome.BURIED if task.retried else await self._bury(task, _waiting(task))
        letter = read_work_item(first.retried.record, first.retried)
        outcome = await self._attempt_now(letter, number)
        is_settled = outcome in (AttemptOutcome.APPLIED, AttemptOutcome.BURIED)
        return AttemptOutcome.AGAIN if is_settled and task.retried is None else outcome

    async def _attempt_now(self, task: WorkItem, number: int) -> AttemptOutcome:
        broken = task.content if isinstance(task.content, MessageRejected) else None
        error = broken or await self._try([task])
        if error is None:
            return await self._applied(task)
        if classify(error) is Failure.MESSAGE or number >= self._attempts:
            return await self._bury(task, self._letter(task, error, number))
        return AttemptOutcome.SURPRISE

    async def _try(self, tasks: Sequence[WorkItem]) -> Exception | None:
        """What is wrong with them; a broken world is raised, and what only a person can repair."""
        try:
            await self._apply(tasks)
        except Exception as raised:
            error = to_outbox_error(raised) or raised
            failure = classify(error)
            if failure in (Failure.WORLD, Failure.HALT):
                if error is raised:
                    raise
                raise error from raised
            if failure is Failure.DONE:
                return None
            self._log.warning("not applied", messages=len(tasks), error=str(error)[:300])
            return error
        self.counts.applied += len(tasks)
        self.counts.gaps += self._gaps.saw(tasks)
        return None

    async def _apply(self, tasks: Sequence[WorkItem]) -> None:
        await while_waiting(Failpoint.EFFECT_SENT, self._reaction.apply(list_envelopes(tasks)))
        failpoint(Failpoint.EFFECT_DONE)

    async def _applied(self, task: WorkItem) -> AttemptOutcome:
        if task.retried is not None and await self._redelivery.applied(task.retried):
            self._parked.discard(task.retried.stream or "")
            self._log.info("key goes on", stream=task.stream)
        return AttemptOutcome.APPLIED

    async def _bury(self, task: WorkItem, letter: DeadLetter) -> AttemptOutcome:
        """Durable before its offset is committed; its key waits from now on."""
        if task.retried is None:
            number = await self._dead_letters.write(letter)
        else:
            number = task.retried.id
            await self._redelivery.failed(task.retried, letter)
        failpoint(Failpoint.LETTER_WRITTEN)
        if letter.stream is not None:
            self._parked.add(letter.stream)
            failpoint(Failpoint.KEY_PARKED)
        if letter.waiting:
            self.counts.waiting += 1
        else:
            self.counts.dead_letters += 1
            self._report(letter, number)
        return AttemptOutcome.BURIED

    def _report(self, letter: DeadLetter, number: int | None) -> None:
        """Enough to find the message, and the letter: `dead-letters show LETTER`."""
        record = letter.record
        self._log.error(
            "dead letter",
            letter=number,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key=as_text(record.key),
            reason=letter.reason,
            error=letter.error[:TOLD_CHARACTERS],
        )

    def _letter(self, task: WorkItem, error: Exception, attempts: int) -> DeadLetter:
        reason = error.reason if isinstance(error, MessageRejected) else type(error).__name__
        stream = task.stream if self._reaction.parks_keys else None
        return DeadLetter(task.record, stream, reason, str(error), attempts)

    def _world(self, error: Exception) -> AttemptOutcome:
        self._log.warning("waiting for a dependency", error=str(error)[:300])
        return AttemptOutcome.WORLD


def _waiting(task: WorkItem) -> DeadLetter:
    why = "an earlier message of this key is a dead letter"
    return DeadLetter(task.record, task.stream, "waits", why, 0, waiting=True)


def as_text(key: bytes | None) -> str | None:
    """A key from outside: what is no text, and every control character, as an escape."""
    if key is None:
        return None
    text = key.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)[:TOLD_CHARACTERS]
