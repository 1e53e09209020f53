"""Routes: how many partitions a topic counts as having, and which topics cannot be published to."""

import asyncio
from collections.abc import Mapping, Set
from time import monotonic

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import TopicAuthorizationFailedError

from outbox.errors import DependencyDown
from outbox.kafka.errors import OF_THE_TOPIC, TOPIC_MISSING, TOPIC_SHRUNK, broker_errors

LOOKS = 5  # a topic that was made a moment ago may take a moment to be known
PAUSE_SECONDS = 0.2
REMEMBERED_SECONDS = 30.0


class TopicPartitions:
    """Asks a broker for a topic once, and keeps to the first count there ever was.

    `recorded` is that count, where a relay has published to the topic before: were a topic's new
    partitions used at once, a key's next version could be read before the one that precedes it. A
    topic with fewer partitions than recorded is another topic of the same name, and refused.
    """

    def __init__(self, recorded: Mapping[str, int], timeout_seconds: float) -> None:
        self.counts: dict[str, int] = {}
        self._recorded = recorded
        self._timeout = timeout_seconds
        self._refused: dict[str, tuple[str, float]] = {}

    def reasons(self, topics: Set[str]) -> dict[str, str]:
        """Why nothing can be published to some topics until a person has changed something."""
        return {topic: self._refused[topic][0] for topic in topics & self._refused.keys()}

    def forget_refusals(self) -> None:
        """A person may have changed something: ask again."""
        self._refused.clear()

    async def learn(self, client: AIOKafkaClient, topics: Set[str]) -> None:
        """Every topic has a count or a reason afterwards; DependencyDown where nobody answers."""
        now = monotonic()
        for topic in [t for t, (_, until) in self._refused.items() if until < now]:
            del self._refused[topic]
        if unknown := topics - self.counts.keys() - self._refused.keys():
            there = await self._ask(client, unknown)
            for topic in unknown:
                self._learn(topic, there[topic])

    def _learn(self, topic: str, there: int | str) -> None:
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
                    return await _look(client, topics)
        except DependencyDown as error:
            raise DependencyDown("kafka", f"no word of topics {', '.join(topics)}") from error


async def _look(client: AIOKafkaClient, topics: Set[str]) -> dict[str, int | str]:
    """Several answers of a live broker that it has no such topic are a refusal; silence is not."""
    for topic in topics:
        client.add_topic(topic)
    answers = 0
    while True:
        answers += bool(await client.force_metadata_update())
        found = {topic: _read_found(client.cluster, topic) for topic in topics}
        if answers >= LOOKS or TOPIC_MISSING not in found.values():
            return found
        await asyncio.sleep(PAUSE_SECONDS)


def _read_found(cluster: ClusterMetadata, topic: str) -> int | str:
    if topic in cluster.unauthorized_topics:
        return OF_THE_TOPIC[TopicAuthorizationFailedError]
    return len(cluster.partitions_for_topic(topic) or ()) or TOPIC_MISSING
