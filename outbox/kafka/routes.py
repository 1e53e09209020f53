"""Routes: how many partitions a topic counts as having, and which topics cannot be published to."""

import asyncio
from collections.abc import Mapping
from time import monotonic

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import TopicAuthorizationFailedError

from outbox.errors import DependencyDown
from outbox.kafka.edge import OF_THE_TOPIC, TOPIC_MISSING, TOPIC_SHRUNK, broker_errors

LOOKS = 5  # a topic that was made a moment ago may take a moment to be known
PAUSE_SECONDS = 0.2
REMEMBERED_SECONDS = 30.0


class TopicRefused(Exception):
    """Nothing can be published to this topic until a person has changed something."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Routes:
    """Asks a broker for a topic once, and keeps to the first count there ever was.

    `recorded` is that count, where a relay has published to the topic before: were a topic's new
    partitions used at once, a key's next version could be read before the one that precedes it. A
    topic with fewer partitions than recorded is another topic of the same name, and refused.
    """

    def __init__(self, recorded: Mapping[str, int], timeout_seconds: float) -> None:
        self.asked: dict[str, int] = {}
        self._recorded = recorded
        self._timeout = timeout_seconds
        self._refused: dict[str, tuple[str, float]] = {}

    async def count(self, client: AIOKafkaClient, topic: str) -> int:
        """TopicRefused where the topic is missing, denied or shrunk; DependencyDown if unknown."""
        if topic in self.asked:
            return self.asked[topic]
        self._require_not_refused(topic)
        try:
            there = await self._ask(client, topic)
            counted = self._recorded.get(topic, there)
            if there < counted:
                raise TopicRefused(TOPIC_SHRUNK)
        except TopicRefused as refusal:
            self._refused[topic] = (refusal.reason, monotonic() + REMEMBERED_SECONDS)
            raise
        self.asked[topic] = counted
        return counted

    def _require_not_refused(self, topic: str) -> None:
        reason, until = self._refused.get(topic, ("", 0.0))
        if monotonic() < until:
            raise TopicRefused(reason)

    async def _ask(self, client: AIOKafkaClient, topic: str) -> int:
        try:
            with broker_errors():
                async with asyncio.timeout(self._timeout):
                    return await _look(client, topic)
        except DependencyDown as error:
            raise DependencyDown("kafka", f"no word of topic {topic}") from error


async def _look(client: AIOKafkaClient, topic: str) -> int:
    """Several answers of a live broker that it has no such topic are a refusal; silence is not."""
    answers = 0
    client.add_topic(topic)
    while answers < LOOKS:
        answers += bool(await client.force_metadata_update())
        if partitions := client.cluster.partitions_for_topic(topic):
            return len(partitions)
        if topic in client.cluster.unauthorized_topics:
            raise TopicRefused(OF_THE_TOPIC[TopicAuthorizationFailedError])
        await asyncio.sleep(PAUSE_SECONDS)
    raise TopicRefused(TOPIC_MISSING)
