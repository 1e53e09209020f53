"""Redelivery: the interface from which a runner gets messages that are to be applied once more.

An operator looks at a dead letter and wants it tried again. The runner that owns its partition does
that, through the same key queues as everything else, so that the order of the key holds.
`DeadLetters` implements this interface.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from consumers.dead_letters.store import DeadLetter, FirstLetter, Retried
from outbox.kafka import Partition

__all__ = ["FirstLetter", "Redelivery", "Retried"]


class Redelivery(Protocol):
    """Each method raises DependencyDown if it cannot be answered; then it is called again."""

    async def due(self, partitions: Collection[Partition]) -> Sequence[Retried]:
        """What is to be applied now of these partitions, the messages of a key in their order.

        It is asked every `retry_poll_seconds`. A message is due until it is settled; the runner
        ignores one that it has already. The implementation must bound the answer: some hundreds of
        messages at most. If an earlier message of a key is dead and nobody wants it retried,
        nothing of that key is due.
        """

    async def first(self, stream: str) -> FirstLetter | None:
        """What comes before anything else of this key; None if nothing of it is dead or waits.

        It is asked before each message of a parked key.
        """

    async def mark_applied(self, retried: Retried) -> bool:
        """Settle a message durably; True if nothing of its key is dead or waits any more."""

    async def mark_failed(self, retried: Retried, letter: DeadLetter) -> None:
        """Make it a dead letter again, durably, for the reason in `letter`.

        The runner drops what else it had of that key; what is still due comes again.
        """
