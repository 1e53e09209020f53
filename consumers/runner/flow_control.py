"""FlowControl: bounds how much is in memory, received and not yet finished.

Each partition has an equal share of the bounds. A partition that has reached its share is paused,
and the broker keeps the rest; at half of its share it is resumed, so that it is not paused again at
once. So a partition in which a key waits for its store takes no room from the others.

What one receive brings is accepted whole, so a partition may exceed its share by one fetch. With
many partitions that adds up: when the excess of all together reaches half of the bounds, all are
paused, until the excess is down to a quarter.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from outbox.kafka import Partition

SHARE_RESUMES = 0.5
OVER_PAUSES, OVER_RESUMES = 0.5, 0.25  # of the bounds, all partitions together


class HeldAmount(NamedTuple):
    """How much is in memory."""

    messages: int = 0
    size: int = 0  # in bytes


class FlowControl:
    """Counts the messages and bytes of each partition; all partitions share the bounds.

    Together they hold at most one and a half of the bounds, and what one more receive brings.
    """

    def __init__(
        self,
        max_messages: int,
        max_bytes: int,
        pause: Callable[[Partition], None],
        resume: Callable[[Partition], None],
    ) -> None:
        self._max = HeldAmount(max_messages, max_bytes)
        self._pause = pause
        self._resume = resume
        self._partitions: frozenset[Partition] = frozenset()
        self._held: dict[Partition, HeldAmount] = {}
        self._over = HeldAmount()
        self._paused: set[Partition] = set()
        self._full = False

    def divide(self, partitions: Iterable[Partition]) -> None:
        """Divide the bounds among these partitions from now on."""
        self._partitions = frozenset(partitions)
        over = [self._compute_excess(partition) for partition in self._held]
        self._over = HeldAmount(
            sum(each.messages for each in over), sum(each.size for each in over)
        )

    @property
    def paused(self) -> frozenset[Partition]:
        """The partitions that are paused now."""
        return frozenset(self._paused)

    @property
    def messages(self) -> int:
        """How many messages of all partitions are in memory."""
        return sum(held.messages for held in self._held.values())

    def add(self, partition: Partition, messages: int, size: int) -> None:
        """Count messages that have come into memory; `size` is in bytes."""
        self._change(partition, messages, size)
        self._full = self._full or max(self._as_parts_of_bounds(self._over)) >= OVER_PAUSES
        if self._full or self._as_part_of_share(partition) >= 1:
            for each in {partition, *(self._partitions if self._full else ())} - self._paused:
                self._paused.add(each)
                self._pause(each)

    def release(self, partition: Partition, messages: int, size: int) -> None:
        """Count messages that are finished; `size` is in bytes."""
        self._change(partition, -messages, -size)
        was_full = self._full
        self._full = was_full and max(self._as_parts_of_bounds(self._over)) > OVER_RESUMES
        if not self._full:
            for each in self._paused & (self._paused if was_full else {partition}):
                if self._as_part_of_share(each) <= SHARE_RESUMES:
                    self._paused.remove(each)
                    self._resume(each)

    def _change(self, partition: Partition, messages: int, size: int) -> None:
        held, before = self._held.get(partition, HeldAmount()), self._compute_excess(partition)
        self._held[partition] = HeldAmount(held.messages + messages, held.size + size)
        after = self._compute_excess(partition)
        self._over = HeldAmount(
            self._over.messages + after.messages - before.messages,
            self._over.size + after.size - before.size,
        )

    def _compute_excess(self, partition: Partition) -> HeldAmount:
        """How much the partition holds beyond its share."""
        held = self._held.get(partition, HeldAmount())
        return HeldAmount(
            max(0, held.messages - self._max.messages // self._count),
            max(0, held.size - self._max.size // self._count),
        )

    def _as_part_of_share(self, partition: Partition) -> float:
        """How much of its share the partition holds; 1 is all of it."""
        held = self._held.get(partition, HeldAmount())
        return self._count * max(self._as_parts_of_bounds(held))

    def _as_parts_of_bounds(self, held: HeldAmount) -> Iterator[float]:
        return (part / most for part, most in zip(held, self._max, strict=True))

    @property
    def _count(self) -> int:
        return max(1, len(self._partitions))
