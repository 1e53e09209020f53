"""Offsets: how much a topic holds, and how far behind a consumer group is."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from outbox.kafka.edge import broker_errors, stop


async def count_records(bootstrap: str, topics: Sequence[str]) -> dict[str, int]:
    """How many records each topic has ever held, by its end offsets; a missing topic has none.

    Markers and compacted records count too: topics of our own relay have none.
    """
    async with _reader(bootstrap, None, topics) as reader:
        return {topic: sum((await _ends(reader, [topic])).values()) for topic in topics}


async def lag(bootstrap: str, group: str, topics: Sequence[str]) -> int:
    """How many records a group has not committed yet. Asks without joining the group."""
    async with _reader(bootstrap, group, topics) as reader:
        ends = await _ends(reader, topics)
        done = [await reader.committed(partition) or 0 for partition in ends]
        return sum(ends.values()) - sum(done)


@asynccontextmanager
async def _reader(
    bootstrap: str, group: str | None, topics: Sequence[str]
) -> AsyncIterator[AIOKafkaConsumer]:
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    with broker_errors():
        try:
            await reader.start()
            reader.assign(await _partitions(reader, topics))
            yield reader
        finally:
            await stop(reader)


async def _partitions(reader: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    known = await reader.topics()
    return [
        TopicPartition(topic, number)
        for topic in topics
        if topic in known
        for number in reader.partitions_for_topic(topic) or ()
    ]


async def _ends(reader: AIOKafkaConsumer, topics: Sequence[str]) -> dict[TopicPartition, int]:
    partitions = [p for p in reader.assignment() if p.topic in topics]
    return dict(await reader.end_offsets(partitions)) if partitions else {}
