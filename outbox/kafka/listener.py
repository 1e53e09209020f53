"""Listener: calls our functions when a rebalance takes or gives partitions."""

from collections.abc import Awaitable, Callable, Collection

from aiokafka import ConsumerRebalanceListener, TopicPartition

from outbox.kafka.consumer_record import Partition


async def end_nothing() -> None:
    """Do nothing: the `revoked` of a subscriber that has no work in flight between two receives."""


def ignore_assignment(_: Collection[Partition]) -> None:
    """Do nothing: the `assigned` of a subscriber that does not need to know its partitions."""


class Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Passes on what aiokafka reports in a rebalance.

    Before partitions are given back it awaits `revoked`, and then it calls `forget`. After an
    assignment it calls `assigned` with all partitions that are assigned now.
    """

    def __init__(
        self,
        forget: Callable[[], None],
        revoked: Callable[[], Awaitable[None]],
        assigned: Callable[[Collection[Partition]], None],
    ) -> None:
        self._forget = forget
        self._revoked = revoked
        self._assigned = assigned

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        if revoked:
            await self._revoked()
        self._forget()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._assigned({(tp.topic, tp.partition) for tp in assigned})
