"""Removed: records that a group had not read when the broker removed them, and how it goes on."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from aiokafka import TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient

from outbox.errors import Halted, NotPossible
from outbox.kafka.admin import NO_REQUEST, admin_client
from outbox.kafka.errors import broker_errors
from outbox.kafka.offsets import of_group, partitions_of, reader_of

MEMBERS = (
    errors.UnknownMemberIdError,
    errors.IllegalGenerationError,
    errors.RebalanceInProgressError,
    errors.CommitFailedError,
)


class LostRecords(NamedTuple):
    """A partition that a group stands still at: `committed` is not between `earliest` and `end`."""

    topic: str
    partition: int
    committed: int
    earliest: int
    end: int

    @property
    def messages(self) -> int:
        """How many nobody can read any more; of a topic that was made anew, nobody knows."""
        return max(0, self.earliest - self.committed)


async def find_lost_records(
    bootstrap: str, group: str, timeout_seconds: float
) -> list[LostRecords]:
    """Where a group cannot go on; Halted where it has committed nothing at all.

    NotPossible where the broker does not list what a group has committed, as a stand-in.
    """
    with broker_errors():
        async with admin_client(bootstrap, timeout_seconds) as admin:
            committed = await committed_offsets(admin, group)
    if not committed:
        raise Halted(f"{group} has committed no offsets: look at the name")
    return [
        LostRecords(tp.topic, tp.partition, committed[tp], earliest, end)
        for tp, (earliest, end) in (await _read_held(bootstrap, committed)).items()
        if not earliest <= committed[tp] <= end
    ]


async def skip_lost_records(bootstrap: str, group: str, partitions: Sequence[LostRecords]) -> None:
    """Let the group go on at the earliest record of each; Halted while it has members."""
    offsets = {TopicPartition(each.topic, each.partition): each.earliest for each in partitions}
    async with reader_of(of_group(bootstrap, group)) as reader:
        reader.assign(list(offsets))
        try:
            await reader.commit(offsets)
        except MEMBERS as error:
            raise Halted(f"{group} has members: stop them first, and start them after") from error


async def committed_offsets(admin: AIOKafkaAdminClient, group: str) -> dict[TopicPartition, int]:
    """All that the group has committed, of whatever topics."""
    try:
        told = await admin.list_consumer_group_offsets(group)
    except TypeError as error:  # aiokafka's, where the answer has no list at all
        raise NotPossible(NO_REQUEST) from error
    return {tp: at.offset for tp, at in told.items() if at.offset >= 0}


async def _read_held(
    bootstrap: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, tuple[int, int]]:
    """The earliest offset and the end of each; what the broker does not know is left out."""
    async with partitions_of(bootstrap, {tp.topic for tp in partitions}) as (reader, there):
        asked = [tp for tp in partitions if tp in there]
        if not asked:
            return {}
        earliest, ends = await reader.beginning_offsets(asked), await reader.end_offsets(asked)
    return {tp: (earliest[tp], ends[tp]) for tp in asked}
