"""Standing: how far a group is in each partition, and whether what comes next can be read."""

from collections.abc import Mapping
from typing import NamedTuple

from aiokafka import TopicPartition

from outbox.errors import DependencyDown, Unreadable
from outbox.kafka.admin import admin_client
from outbox.kafka.errors import broker_errors
from outbox.kafka.lost_records import committed_offsets
from outbox.kafka.offsets import partitions_of
from outbox.kafka.reader import OffsetRange, Reader

LOOK_SECONDS = 5.0  # how long what comes next may keep silent


class Standing(NamedTuple):
    """`behind` are offsets that are not committed; `stands_still` says why the next one cannot be
    read (its codec, what to install, an open transaction), and is empty where it can."""

    topic: str
    partition: int
    committed: int
    behind: int
    stands_still: str


async def read_standings(
    bootstrap: str, group: str, timeout_seconds: float, inflated_batch_bytes: int
) -> list[Standing]:
    """Of every partition that the group has committed an offset of; it looks, and joins nothing.

    NotPossible where the broker does not list them, as a stand-in.
    """
    with broker_errors():
        async with admin_client(bootstrap, timeout_seconds) as admin:
            committed = await committed_offsets(admin, group)
    ends = await _ends(bootstrap, committed)
    if not ends:
        return []
    topics = {tp.topic for tp in ends}
    async with Reader(bootstrap, topics, LOOK_SECONDS, inflated_batch_bytes) as reader:
        return [
            Standing(tp.topic, tp.partition, at, max(0, ends[tp] - at), await _why(reader, tp, at))
            if ends[tp] > (at := committed[tp])
            else Standing(tp.topic, tp.partition, at, 0, "")
            for tp in sorted(ends)
        ]


async def _why(reader: Reader, tp: TopicPartition, offset: int) -> str:
    try:
        async for _ in reader.read({(tp.topic, tp.partition): OffsetRange(offset, offset + 1)}):
            return ""
    except (Unreadable, DependencyDown) as error:
        return str(error)
    return ""


async def _ends(
    bootstrap: str, committed: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    async with partitions_of(bootstrap, {tp.topic for tp in committed}) as (reader, there):
        asked = [tp for tp in committed if tp in there]
        return await reader.end_offsets(asked) if asked else {}
