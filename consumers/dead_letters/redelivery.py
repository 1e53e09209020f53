"""Redo: where a runner asks for messages that are to be applied once more.

A person looks at a dead letter, and wants it tried again. The runner that owns its partition does
that, through the same lanes as everything else, so that the order of a key holds. DeadLetters is
one.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from consumers.dead_letters.store import DeadLetter, First, Retried
from outbox.kafka import Partition

__all__ = ["First", "Redelivery", "Retried"]


class Redelivery(Protocol):
    """Each raises DependencyDown where it cannot be answered; then it is called again."""

    async def due(self, partitions: Collection[Partition]) -> Sequence[Retried]:
        """What is to be applied now of these partitions, the messages of a key in their order.

        Asked every `retry_poll_seconds`. A message is due until it is settled; one that the runner
        has already is ignored. It is the caller's to bound: give some hundreds at most. Of a key
        with an earlier message that nobody wants retried, nothing is due.
        """

    async def first(self, stream: str) -> First | None:
        """What comes before anything else of a key: asked before each message of a parked one.

        None where the key has nothing that is dead or waits.
        """

    async def applied(self, retried: Retried) -> bool:
        """It is settled, durably. True where nothing of its key is dead or waits any more."""

    async def failed(self, retried: Retried, letter: DeadLetter) -> None:
        """It is a dead letter again, durably, for the reason in `letter`.

        The runner forgets what else it had of that key; what is still due comes again.
        """
