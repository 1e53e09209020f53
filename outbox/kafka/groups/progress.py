"""GroupProgress: how far a group is in each partition, and whether its next record can be read."""

from collections.abc import Mapping
from typing import NamedTuple

from aiokafka import TopicPartition

from outbox.errors import DependencyDown, Unreadable
from outbox.kafka.admin import read_committed_offsets
from outbox.kafka.groups.offsets import partitions_of
from outbox.kafka.reader import OffsetRange, Reader

LOOK_SECONDS = 5.0  # how long the broker may be silent while the next record is read


class GroupProgress(NamedTuple):
    """How far a group is in one partition.

    `behind` counts the offsets that are not committed. `stands_still` says why the next record
    cannot be read (its codec, what to install, an open transaction), and is empty where it can.
    """

    topic: str
    partition: int
    committed: int
    behind: int
    stands_still: str


async def read_group_progress(
    bootstrap: str, group: str, timeout_seconds: float, inflated_batch_bytes: int
) -> list[GroupProgress]:
    """Return the progress in each partition of which the group has committed an offset.

    It joins no group and changes nothing. NotPossible where the broker does not list what a group
    has committed, which is so with a stand-in.
    """
    committed = await read_committed_offsets(bootstrap, group, timeout_seconds)
    ends = await _read_ends(bootstrap, committed)
    if not ends:
        return []
    topics = {tp.topic for tp in ends}
    async with Reader(bootstrap, topics, LOOK_SECONDS, inflated_batch_bytes) as reader:
        return [await _read_partition(reader, tp, committed[tp], ends[tp]) for tp in sorted(ends)]


async def _read_partition(
    reader: Reader, tp: TopicPartition, committed: int, end: int
) -> GroupProgress:
    if end <= committed:
        return GroupProgress(tp.topic, tp.partition, committed, 0, "")
    stands_still = await _read_obstacle(reader, tp, committed)
    return GroupProgress(tp.topic, tp.partition, committed, end - committed, stands_still)


async def _read_obstacle(reader: Reader, tp: TopicPartition, offset: int) -> str:
    """Read one record; return the error's text where it cannot be read, and "" where it can."""
    try:
        async for _ in reader.read({(tp.topic, tp.partition): OffsetRange(offset, offset + 1)}):
            return ""
    except (Unreadable, DependencyDown) as error:
        return str(error)
    return ""


async def _read_ends(
    bootstrap: str, committed: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    async with partitions_of(bootstrap, {tp.topic for tp in committed}) as (reader, there):
        asked = [tp for tp in committed if tp in there]
        return await reader.end_offsets(asked) if asked else {}
