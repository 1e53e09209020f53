"""Consumer: the one class through which our programs read Kafka.

aiokafka's defaults do not fit: they show records of transactions that were aborted or have not
ended, they commit by themselves, and they inflate a batch to any size. This class fixes all three,
and none of them can be chosen otherwise.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition, errors
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, FetchResult

from outbox.errors import DependencyDown, Unreadable
from outbox.kafka import inflation
from outbox.kafka.inflation import INFLATED_BATCH_BYTES, Uninflatable, inflating_at_most

# The errors that parsing a broken, cut or foreign batch raises. MemoryError is among them for
# memory that the limit of inflation does not count.
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


class Consumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """Reads committed records only, commits nothing by itself, and inflates a batch up to a limit.

    `inflated_batch_bytes` is that limit; a batch beyond it raises one of BROKEN.
    """

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
        """Return the offset behind the last record of each, of open transactions as well.

        aiokafka would answer with `stable_ends`, which is where reading stops for now. A caller
        that took that for the end would believe it had read records that it has not.
        """
        asking = copy(self._fetcher)  # the copy shares the connections, and fetches nothing
        asking._isolation_level = READ_UNCOMMITTED
        return dict(await asking.end_offsets(partitions, self._request_timeout_ms))

    async def stable_ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the first offset of an open transaction in each partition, or else its end."""
        return dict(await super().end_offsets(partitions))

    def list_partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """Return all partitions of these topics, which exist, in rising order.

        Raises DependencyDown where the broker's answer left out a topic: no partitions would look
        like a topic that is empty, or wholly read.
        """
        return [TopicPartition(topic, number) for topic in topics for number in self._number(topic)]

    def _number(self, topic: str) -> list[int]:
        numbers = self.partitions_for_topic(topic)
        if not numbers:
            raise DependencyDown("kafka", f"it says nothing of the partitions of {topic}")
        return sorted(numbers)

    def positions(self) -> dict[TopicPartition, int]:
        """Return the next offset of each assigned partition where it is known; asks no broker."""
        subscription = self._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return {}
        states = {tp: subscription.assignment.state_value(tp) for tp in self.assignment()}
        return {tp: state.position for tp, state in states.items() if state.has_valid_position}

    def build_unreadable(self, error: BaseException) -> Unreadable:
        """Turn what a `getmany` raised into an error that names the partition and the offset.

        Where it cannot be found out, the error names all assigned topics, and -1 for both numbers.
        """
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
    """Return whether parsing this answer has failed.

    Its generator of records has then ended, though not at the last record: that would be noted.
    """
    records = fetched._partition_records
    iterator = records and records._records_iterator
    return iterator is not None and iterator.gi_frame is None
