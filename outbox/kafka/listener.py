"""Listener: what aiokafka tells in a rebalance, in our words."""

from collections.abc import Awaitable, Callable, Collection

from aiokafka import ConsumerRebalanceListener, TopicPartition

from outbox.kafka.consumer_record import Partition


class Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka says no types
    """Awaits `revoked` before partitions are given back, then forgets; tells which are assigned."""

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
