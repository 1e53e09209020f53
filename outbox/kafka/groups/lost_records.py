"""Lost records: what the broker removed before a group read it, and how the group goes on."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from aiokafka import TopicPartition

from outbox.errors import Halted
from outbox.kafka.admin import read_committed_offsets
from outbox.kafka.errors import GROUP_HAS_MEMBERS
from outbox.kafka.groups.offsets import group_client, partitions_of, started


class LostRecords(NamedTuple):
    """A partition that a group cannot go on in.

    The group's `committed` offset is not between the partition's `earliest` offset and its `end`.
    """

    topic: str
    partition: int
    committed: int
    earliest: int
    end: int

    @property
    def messages(self) -> int:
        """How many records can no longer be read; 0 where the topic was created anew."""
        return max(0, self.earliest - self.committed)


async def find_lost_records(
    bootstrap: str, group: str, timeout_seconds: float
) -> list[LostRecords]:
    """Return the partitions in which a group cannot go on.

    Halted where the group has committed nothing at all; NotPossible where the broker does not list
    what a group has committed, which is so with a stand-in.
    """
    committed = await read_committed_offsets(bootstrap, group, timeout_seconds)
    if not committed:
        raise Halted(f"{group} has committed no offsets: look at the name")
    return [
        LostRecords(tp.topic, tp.partition, committed[tp], earliest, end)
        for tp, (earliest, end) in (await _read_ranges(bootstrap, committed)).items()
        if not earliest <= committed[tp] <= end
    ]


async def skip_lost_records(bootstrap: str, group: str, partitions: Sequence[LostRecords]) -> None:
    """Let the group go on at the earliest record of each partition; Halted while it has members."""
    offsets = {TopicPartition(each.topic, each.partition): each.earliest for each in partitions}
    async with started(group_client(bootstrap, group)) as reader:
        reader.assign(list(offsets))
        try:
            await reader.commit(offsets)
        except GROUP_HAS_MEMBERS as error:
            raise Halted(f"{group} has members: stop them first, and start them after") from error


async def _read_ranges(
    bootstrap: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, tuple[int, int]]:
    """Return the earliest offset and the end of each; partitions the broker lacks are left out."""
    async with partitions_of(bootstrap, {tp.topic for tp in partitions}) as (reader, there):
        asked = [tp for tp in partitions if tp in there]
        if not asked:
            return {}
        earliest, ends = await reader.beginning_offsets(asked), await reader.end_offsets(asked)
    return {tp: (earliest[tp], ends[tp]) for tp in asked}
