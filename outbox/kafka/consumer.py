"""Consumer: the one way in which anything of ours reads Kafka.

aiokafka's defaults are for somebody else: they show records of transactions that were rolled back
or have not ended, commit by themselves, and inflate a batch whatever it inflates to. No reader can
be made without what stands here.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition, errors
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, FetchResult

from outbox.errors import Unreadable
from outbox.kafka import inflation
from outbox.kafka.inflation import INFLATED_BATCH_BYTES, Uninflatable, inflating_at_most

# What a broken, cut or foreign batch raises where it is parsed. MemoryError is left for what the
# limit of inflation does not count.
BROKEN = (
    Uninflatable,
    errors.CorruptRecordException,
    errors.RecordTooLargeError,
    errors.UnsupportedCodecError,
    MemoryError,
    ValueError,
    RuntimeError,
    EOFError,
)

inflation.install()


class Consumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka says no types
    """Reads what is committed; commits nothing by itself; inflates a batch up to a limit."""

    def __init__(
        self,
        *topics: str,
        bootstrap_servers: str,
        inflated_batch_bytes: int = INFLATED_BATCH_BYTES,
        **options: Any,
    ) -> None:
        self._inflated_batch_bytes = inflated_batch_bytes
        super().__init__(
            *topics,
            bootstrap_servers=bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            **options,
        )

    async def getmany(self, *partitions: TopicPartition, **options: Any) -> Any:
        with inflating_at_most(self._inflated_batch_bytes):
            return await super().getmany(*partitions, **options)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Behind all that each holds, whether its transaction has ended or not.

        aiokafka would answer with `stable_ends`, which is where reading stops for now: whoever
        takes that for the end believes to have read what it has not.
        """
        asking = copy(self._fetcher)  # it shares the connections, and fetches nothing
        asking._isolation_level = READ_UNCOMMITTED
        return dict(await asking.end_offsets(partitions, self._request_timeout_ms))

    async def stable_ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The first record of each that is in an open transaction; without one, the end."""
        return dict(await super().end_offsets(partitions))

    def positions(self) -> dict[TopicPartition, int]:
        """What of each partition comes next, where that is known."""
        subscription = self._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return {}
        states = {tp: subscription.assignment.state_value(tp) for tp in self.assignment()}
        return {tp: state.position for tp, state in states.items() if state.has_valid_position}

    def unreadable(self, error: BaseException) -> Unreadable:
        """Of what a `getmany` raised: which partition it was, and from where on."""
        if isinstance(error, errors.RecordTooLargeError) and len(error.args) > 2:
            tp, offset = error.args[1], error.args[2]
            return Unreadable((tp.topic, tp.partition), offset, RuntimeError("a cut batch"))
        for tp, fetched in self._fetcher._records.items():
            if isinstance(fetched, FetchResult) and _has_raised(fetched):
                offset = fetched._partition_records.next_fetch_offset
                return Unreadable((tp.topic, tp.partition), offset, error)
        topics = sorted({tp.topic for tp in self.assignment()})
        return Unreadable((" or ".join(topics), -1), -1, error)


def _has_raised(fetched: FetchResult) -> bool:
    """Its generator of records has ended, and not by their end: that would have been noted."""
    records = fetched._partition_records
    iterator = records and records._records_iterator
    return iterator is not None and iterator.gi_frame is None
