"""Offsets: how much a topic holds, and how far behind a consumer group is."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from aiokafka import TopicPartition

from outbox.kafka.consumer import Consumer
from outbox.kafka.errors import broker_errors, stop_client


async def count_records(bootstrap: str, topics: Sequence[str]) -> dict[str, int]:
    """How many records each topic has ever held, by its end offsets; a missing topic has none.

    Compacted records count too, markers of transactions and what was rolled back: our own relay
    makes none of them.
    """
    ends = await _ends(bootstrap, topics)
    return {
        topic: sum(end for partition, end in ends.items() if partition.topic == topic)
        for topic in topics
    }


async def count_unread(bootstrap: str, group: str, topics: Sequence[str]) -> int:
    """How many offsets a group has not committed yet. Asks without joining the group.

    Those of an open transaction count, since what stands behind it waits for its end. Markers and
    what was rolled back count until a member of the group passes them, which it does when it is
    idle: a group that runs comes to 0.
    """
    ends = await _ends(bootstrap, topics)
    async with reader_of(of_group(bootstrap, group)) as reader:
        reader.assign(list(ends))
        done = [await reader.committed(partition) or 0 for partition in ends]
    return sum(ends.values()) - sum(done)


async def has_committed(bootstrap: str, group: str, topics: Sequence[str]) -> bool:
    """Whether a group has ever committed an offset of these topics."""
    partitions = list(await _ends(bootstrap, topics))
    async with reader_of(of_group(bootstrap, group)) as reader:
        reader.assign(partitions)
        return any([await reader.committed(partition) is not None for partition in partitions])


@asynccontextmanager
async def partitions_of(
    bootstrap: str, topics: Iterable[str]
) -> AsyncIterator[tuple[Consumer, list[TopicPartition]]]:
    """The partitions of the topics, and who can be asked about them; no name need exist.

    Without a group and with its topics named, a client knows their partitions from the start. A
    name that the broker does not know would be waited for: so it is left out.
    """
    async with reader_of(Consumer(bootstrap_servers=bootstrap)) as reader:
        there = await reader.topics()
    named = [topic for topic in topics if topic in there]
    async with reader_of(Consumer(*named, bootstrap_servers=bootstrap)) as reader:
        yield (
            reader,
            [
                TopicPartition(topic, number)
                for topic in named
                for number in reader.partitions_for_topic(topic) or ()
            ],
        )


async def _ends(bootstrap: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
    async with partitions_of(bootstrap, topics) as (reader, partitions):
        return dict(await reader.end_offsets(partitions)) if partitions else {}


def of_group(bootstrap: str, group: str) -> Consumer:
    """Who may ask and commit for a group without joining it; not started yet.

    It commits nothing by itself. By default aiokafka would at its end: of a group that has never
    read it would commit the end of the topics, and pass over all that is there.
    """
    return Consumer(bootstrap_servers=bootstrap, group_id=group)


@asynccontextmanager
async def reader_of(reader: Consumer) -> AsyncIterator[Consumer]:
    """Started, for the length of the block."""
    with broker_errors():
        try:
            await reader.start()
            yield reader
        finally:
            await stop_client(reader)
