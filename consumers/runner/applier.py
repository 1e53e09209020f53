"""Applier: makes one attempt at a message or batch, and decides what its failure means.

A failure means that a dependency has failed, that this message is broken, that the error is
unexpected, or that the consumer must halt (`failures.py`). The one broad `except` of the runner
stands here: whatever a reaction raises is one of these.
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

LOGGED_CHARACTERS = 300


class AttemptOutcome(Enum):
    """What has become of a batch after one attempt.

    APPLIED and DEAD_LETTERED are final and durable: the message was applied, or it is a dead letter
    or waits behind one. The others leave the batch as it was. After DEPENDENCY_FAILED no attempt is
    spent; UNEXPECTED_ERROR has spent one. LETTER_SETTLED means that an open letter of the same key,
    which comes first, was settled instead.
    """

    APPLIED = "applied"
    DEAD_LETTERED = "dead-lettered"
    DEPENDENCY_FAILED = "dependency failed"
    UNEXPECTED_ERROR = "unexpected error"
    LETTER_SETTLED = "letter settled"


@dataclass(slots=True)
class AppliedCounts:
    """How many messages a runner has settled since it started, and how many gaps it has seen."""

    applied: int = 0
    dead_letters: int = 0
    waiting: int = 0
    gaps: int = 0


class Applier:
    """Makes the attempts of one consumer and knows which of its keys are parked.

    The caller keeps the order of each key: it makes no two attempts at a key at the same time.
    """

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
        """Read which keys are parked, also by members that had our partitions before us."""
        self._parked = await self._dead_letters.read_parked()

    def must_run_alone(self, item: WorkItem) -> bool:
        """Whether it must not be in a batch with others."""
        is_broken = isinstance(item.content, MessageRejected)
        return is_broken or item.retried is not None or item.stream in self._parked

    async def attempt(self, items: Sequence[WorkItem], number: int) -> AttemptOutcome:
        """Apply the items at once; `number` counts the attempts at a single one, from 1 on.

        A batch that fails leaves open which of its messages were applied. The caller then attempts
        them one by one, so that only the faulty one suffers. Raises what only an operator can
        repair, and what is wrong beside the reaction.
        """
        try:
            if len(items) == 1:
                return await self._attempt_one(items[0], number)
            error = await self._apply_and_classify(items)
        except (DependencyDown, Contention) as failure:
            return self._report_dependency_failure(failure)
        return AttemptOutcome.UNEXPECTED_ERROR if error else AttemptOutcome.APPLIED

    async def _attempt_one(self, item: WorkItem, number: int) -> AttemptOutcome:
        if item.is_for_another(self._reaction.name):
            return AttemptOutcome.APPLIED  # nothing to this consumer, so it never waits either
        parked = item.stream if item.stream in self._parked else None
        stream = item.retried.stream if item.retried else parked
        if stream is None:
            return await self._attempt_now(item, number)
        return await self._attempt_in_order(item, stream, number)

    async def _attempt_in_order(self, item: WorkItem, stream: str, number: int) -> AttemptOutcome:
        """Attempt an item after the open letters of its key, and settle the first of those here.

        While letters are redelivered, a live message does not wait as a letter behind them, as it
        does behind a dead one: otherwise a key that never falls silent would be parked for ever.
        """
        first = await self._redelivery.first(stream)
        if first is None:
            self._parked.discard(stream)
            return AttemptOutcome.APPLIED if item.retried else await self._attempt_now(item, number)
        if first.retried is None:
            if item.retried:
                return AttemptOutcome.DEAD_LETTERED
            return await self._dead_letter(item, _build_waiting_letter(item))
        letter = read_work_item(first.retried.record, first.retried)
        outcome = await self._attempt_now(letter, number)
        is_settled = outcome in (AttemptOutcome.APPLIED, AttemptOutcome.DEAD_LETTERED)
        return AttemptOutcome.LETTER_SETTLED if is_settled and item.retried is None else outcome

    async def _attempt_now(self, item: WorkItem, number: int) -> AttemptOutcome:
        rejection = item.content if isinstance(item.content, MessageRejected) else None
        error = rejection or await self._apply_and_classify([item])
        if error is None:
            return await self._settle_applied(item)
        if classify(error) is Failure.MESSAGE or number >= self._attempts:
            return await self._dead_letter(item, self._build_letter(item, error, number))
        return AttemptOutcome.UNEXPECTED_ERROR

    async def _apply_and_classify(self, items: Sequence[WorkItem]) -> Exception | None:
        """Return what is wrong with the items, or None if they are applied.

        Raises a dependency failure, and what only an operator can repair.
        """
        try:
            await self._apply(items)
        except Exception as raised:
            error = to_outbox_error(raised) or raised
            failure = classify(error)
            if failure in (Failure.DEPENDENCY, Failure.HALT):
                if error is raised:
                    raise
                raise error from raised
            if failure is Failure.DONE:
                return None
            self._log.warning(
                "not applied", messages=len(items), error=str(error)[:LOGGED_CHARACTERS]
            )
            return error
        self.counts.applied += len(items)
        self.counts.gaps += self._gaps.count_gaps(items)
        return None

    async def _apply(self, items: Sequence[WorkItem]) -> None:
        await while_waiting(Failpoint.EFFECT_SENT, self._reaction.apply(list_envelopes(items)))
        failpoint(Failpoint.EFFECT_DONE)

    async def _settle_applied(self, item: WorkItem) -> AttemptOutcome:
        if item.retried is not None and await self._redelivery.mark_applied(item.retried):
            self._parked.discard(item.retried.stream or "")
            self._log.info("key goes on", stream=item.stream)
        return AttemptOutcome.APPLIED

    async def _dead_letter(self, item: WorkItem, letter: DeadLetter) -> AttemptOutcome:
        """Write the letter durably, before its offset is committed, and park its key."""
        if item.retried is None:
            number = await self._dead_letters.write(letter)
        else:
            number = item.retried.id
            await self._redelivery.mark_failed(item.retried, letter)
        failpoint(Failpoint.LETTER_WRITTEN)
        if letter.stream is not None:
            self._parked.add(letter.stream)
            failpoint(Failpoint.KEY_PARKED)
        if letter.waiting:
            self.counts.waiting += 1
        else:
            self.counts.dead_letters += 1
            self._log_dead_letter(letter, number)
        return AttemptOutcome.DEAD_LETTERED

    def _log_dead_letter(self, letter: DeadLetter, number: int | None) -> None:
        """Log enough to find the message, and the letter with `dead-letters show LETTER`."""
        record = letter.record
        self._log.error(
            "dead letter",
            letter=number,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key=format_key(record.key),
            reason=letter.reason,
            error=letter.error[:LOGGED_CHARACTERS],
        )

    def _build_letter(self, item: WorkItem, error: Exception, attempts: int) -> DeadLetter:
        reason = error.reason if isinstance(error, MessageRejected) else type(error).__name__
        stream = item.stream if self._reaction.parks_keys else None
        return DeadLetter(item.record, stream, reason, str(error), attempts)

    def _report_dependency_failure(self, error: Exception) -> AttemptOutcome:
        self._log.warning("waiting for a dependency", error=str(error)[:LOGGED_CHARACTERS])
        return AttemptOutcome.DEPENDENCY_FAILED


def _build_waiting_letter(item: WorkItem) -> DeadLetter:
    why = "an earlier message of this key is a dead letter"
    return DeadLetter(item.record, item.stream, "waits", why, 0, waiting=True)


def format_key(key: bytes | None) -> str | None:
    """A record's key for a log line, at most 300 characters; None if the record has no key.

    Bytes that are no UTF-8 and every unprintable character are written as escapes.
    """
    if key is None:
        return None
    text = key.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)[:LOGGED_CHARACTERS]
