"""Intake: how much of a partition may be in memory, received and unfinished.

A partition that has reached its share is paused: the broker keeps the rest. At half of it the
partition is resumed, so that it is not paused again at once.
"""

from collections.abc import Callable

from outbox.kafka import Partition


class Intake:
    """Counts the messages and bytes of each of `partitions` partitions, which share the bounds.

    What one receive brings is accepted whole, so a partition may be over by that much.
    """

    def __init__(
        self,
        max_messages: int,
        max_bytes: int,
        pause: Callable[[Partition], None],
        resume: Callable[[Partition], None],
    ) -> None:
        self._max = (max_messages, max_bytes)
        self._pause = pause
        self._resume = resume
        self._partitions = 1
        self._held: dict[Partition, tuple[int, int]] = {}
        self._paused: set[Partition] = set()

    def divide(self, partitions: int) -> None:
        """Among so many, from now on."""
        self._partitions = max(1, partitions)

    @property
    def paused(self) -> frozenset[Partition]:
        return frozenset(self._paused)

    @property
    def messages(self) -> int:
        """Of all partitions."""
        return sum(messages for messages, _ in self._held.values())

    def took(self, partition: Partition, messages: int, size: int) -> None:
        """They are in memory now."""
        self._change(partition, messages, size)
        if partition not in self._paused and self._filled(partition) >= 1:
            self._paused.add(partition)
            self._pause(partition)

    def released(self, partition: Partition, messages: int, size: int) -> None:
        """They are finished."""
        self._change(partition, -messages, -size)
        if partition in self._paused and self._filled(partition) <= 0.5:
            self._paused.remove(partition)
            self._resume(partition)

    def _change(self, partition: Partition, messages: int, size: int) -> None:
        held_messages, held_bytes = self._held.get(partition, (0, 0))
        self._held[partition] = (held_messages + messages, held_bytes + size)

    def _filled(self, partition: Partition) -> float:
        """How much of its share it has; 1 is all."""
        held = self._held[partition]
        return max(
            part * self._partitions / most for part, most in zip(held, self._max, strict=True)
        )
