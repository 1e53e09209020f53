"""Offsets: how much a topic holds, and how far behind a consumer group is."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from aiokafka import TopicPartition

from outbox.kafka.consumer import Consumer
from outbox.kafka.errors import broker_errors, start_client, stop_client


async def count_records(bootstrap: str, topics: Sequence[str]) -> dict[str, int]:
    """Return how many records each topic has ever held, by its end offsets.

    A topic that does not exist has none. Compacted records count too, and so do transaction markers
    and records of aborted transactions; our own relay writes neither of these two.
    """
    ends = await _read_ends(bootstrap, topics)
    return {
        topic: sum(end for partition, end in ends.items() if partition.topic == topic)
        for topic in topics
    }


async def count_unread(bootstrap: str, group: str, topics: Sequence[str]) -> int:
    """Return how many offsets a group has not committed yet, without joining the group.

    Offsets of an open transaction count, since the records behind it wait for its end. Transaction
    markers and records of aborted transactions count until a member of the group passes them,
    which it does when it is idle: a group that runs comes to 0.
    """
    ends = await _read_ends(bootstrap, topics)
    async with started(group_client(bootstrap, group)) as reader:
        reader.assign(list(ends))
        done = [await reader.committed(partition) or 0 for partition in ends]
    return sum(ends.values()) - sum(done)


async def has_committed(bootstrap: str, group: str, topics: Sequence[str]) -> bool:
    """Return whether the group has ever committed an offset of any of these topics."""
    partitions = list(await _read_ends(bootstrap, topics))
    async with started(group_client(bootstrap, group)) as reader:
        reader.assign(partitions)
        return any([await reader.committed(partition) is not None for partition in partitions])


@asynccontextmanager
async def partitions_of(
    bootstrap: str, topics: Iterable[str]
) -> AsyncIterator[tuple[Consumer, list[TopicPartition]]]:
    """Give a started client and the partitions of the topics; topics that do not exist have none.

    A client that names its topics and has no group knows their partitions from the start. It would
    wait for a topic that the broker does not know, so such a topic is left out.
    """
    async with started(Consumer(bootstrap_servers=bootstrap)) as reader:
        there = await reader.topics()
    named = [topic for topic in topics if topic in there]
    async with started(Consumer(*named, bootstrap_servers=bootstrap)) as reader:
        yield reader, reader.list_partitions(named)


async def _read_ends(bootstrap: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
    async with partitions_of(bootstrap, topics) as (reader, partitions):
        return dict(await reader.end_offsets(partitions)) if partitions else {}


def group_client(bootstrap: str, group: str) -> Consumer:
    """Return a client, not started yet, that may ask and commit for a group without joining it.

    It commits nothing by itself. aiokafka's default is to commit when it stops: for a group that
    has never read, it would commit the end of the topics and so skip all that is there.
    """
    return Consumer(bootstrap_servers=bootstrap, group_id=group)


@asynccontextmanager
async def started(reader: Consumer) -> AsyncIterator[Consumer]:
    """Start the client, and stop it at the end of the block; its errors become DependencyDown."""
    with broker_errors():
        try:
            await start_client(reader)
            yield reader
        finally:
            await stop_client(reader)
