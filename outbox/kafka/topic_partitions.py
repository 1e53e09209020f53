"""TopicPartitions: how many partitions a topic counts as having, and where its keys go."""

import asyncio
from collections.abc import Mapping, Set
from time import monotonic

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.partitioner import murmur2

from outbox.errors import DependencyDown
from outbox.kafka.errors import OF_THE_TOPIC, TOPIC_MISSING, TOPIC_SHRUNK, broker_errors

LOOKS = 5  # a topic that was created a moment ago may take a moment to be known
PAUSE_SECONDS = 0.2
REMEMBERED_SECONDS = 30.0


class TopicPartitions:
    """Asks a broker once for each topic, and keeps to the first partition count there ever was.

    `recorded` has that first count where a relay has published to the topic before. Partitions that
    were added later are not used: with them a key would move to another partition, and its next
    version could be read before the one that precedes it. A topic with fewer partitions than
    recorded is another topic of the same name, and it is refused. A refusal is remembered for
    REMEMBERED_SECONDS.
    """

    def __init__(self, recorded: Mapping[str, int], timeout_seconds: float) -> None:
        self.counts: dict[str, int] = {}
        self._recorded = recorded
        self._timeout = timeout_seconds
        self._refused: dict[str, tuple[str, float]] = {}

    def read_refusals(self, topics: Set[str]) -> dict[str, str]:
        """Return those of the topics that cannot be published to, each with the reason.

        They stay so until an operator has changed something.
        """
        return {topic: self._refused[topic][0] for topic in topics & self._refused.keys()}

    def forget_refusals(self) -> None:
        """Ask again for each refused topic, since an operator may have changed something."""
        self._refused.clear()

    async def learn(self, client: AIOKafkaClient, topics: Set[str]) -> None:
        """Find a partition count or a refusal for every topic; DependencyDown without an answer."""
        now = monotonic()
        for topic in [t for t, (_, until) in self._refused.items() if until < now]:
            del self._refused[topic]
        if unknown := topics - self.counts.keys() - self._refused.keys():
            there = await self._ask(client, unknown)
            for topic in unknown:
                self._note_answer(topic, there[topic])

    def _note_answer(self, topic: str, there: int | str) -> None:
        if isinstance(there, int) and there < self._recorded.get(topic, 0):
            there = TOPIC_SHRUNK
        if isinstance(there, int):
            self.counts[topic] = self._recorded.get(topic, there)
        else:
            self._refused[topic] = (there, monotonic() + REMEMBERED_SECONDS)

    async def _ask(self, client: AIOKafkaClient, topics: Set[str]) -> dict[str, int | str]:
        try:
            with broker_errors():
                async with asyncio.timeout(self._timeout):
                    return await _read_topics(client, topics)
        except DependencyDown as error:
            raise DependencyDown("kafka", f"no word of topics {', '.join(topics)}") from error


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that Kafka's Java client, and so every other client, picks for `key`."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


async def _read_topics(client: AIOKafkaClient, topics: Set[str]) -> dict[str, int | str]:
    """Return each topic's partition count, or why it cannot be published to.

    A topic counts as missing after LOOKS answers of a live broker that say so, never by silence.
    """
    for topic in topics:
        client.add_topic(topic)
    answers = 0
    while True:
        answers += bool(await client.force_metadata_update())
        found = {topic: _read_topic(client.cluster, topic) for topic in topics}
        if answers >= LOOKS or TOPIC_MISSING not in found.values():
            return found
        await asyncio.sleep(PAUSE_SECONDS)


def _read_topic(cluster: ClusterMetadata, topic: str) -> int | str:
    if topic in cluster.unauthorized_topics:
        return OF_THE_TOPIC[TopicAuthorizationFailedError]
    return len(cluster.partitions_for_topic(topic) or ()) or TOPIC_MISSING
