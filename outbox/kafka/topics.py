"""Topics: made on request, never by themselves; and the question whether a broker answers."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from outbox.errors import DependencyDown
from outbox.kafka.edge import broker_errors, ended

TIMEOUT_SECONDS = 30.0
PAUSE_SECONDS = 0.05


async def create_topics(
    bootstrap: str,
    names: Iterable[str],
    partitions: int,
    replication: int = 1,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> list[str]:
    """Make the topics that are missing and return their names, once every topic has its leaders.

    One that exists is left alone, whatever its partitions and settings are. DependencyDown where
    the broker refuses one; others of the same call may have been made then, and a repetition is
    safe. librdkafka's mock broker has no such request.
    """
    wanted = sorted(set(names))
    topics = [
        NewTopic(name, partitions, replication, topic_configs=configuration(replication))
        for name in wanted
    ]
    async with admin_client(bootstrap, timeout_seconds) as admin:
        response = await admin.create_topics(topics)
        answers = response.topic_errors
        created = [name for name, code, *text in answers if _is_new(name, code, text)]
        while not await _led(admin, wanted):  # noqa: ASYNC110 - the broker has no event
            await asyncio.sleep(PAUSE_SECONDS)
    return created


def configuration(replication: int) -> dict[str, str]:
    """What every topic of ours is told.

    Uncompressed, because a client inflates a whole batch without a limit. All replicas but one
    must have a record before it is acknowledged, and none that lacks it may lead.
    """
    return {
        "compression.type": "uncompressed",
        "min.insync.replicas": str(max(1, replication - 1)),
        "unclean.leader.election.enable": "false",
    }


async def cluster_id(bootstrap: str, timeout_seconds: float = TIMEOUT_SECONDS) -> str:
    """The id of the cluster, from its own metadata; DependencyDown where nobody gives it."""
    async with admin_client(bootstrap, timeout_seconds) as admin:
        return str((await admin.describe_cluster())["cluster_id"])


def _is_new(name: str, code: int, text: list[str | None]) -> bool:
    """Whether the answer says that it was made; DependencyDown where it was refused."""
    if code == TopicAlreadyExistsError.errno:
        return False
    if code:
        why = f"{name}: {' '.join(map(str, text))}"
        raise DependencyDown("kafka", f"{for_code(code).__name__}: {why}")
    return True


async def _led(admin: AIOKafkaAdminClient, names: list[str]) -> bool:
    """Whether every partition of every topic has a leader."""
    topics = await admin.describe_topics(names)
    return all(
        topic["error_code"] == 0
        and topic["partitions"]
        and all(partition["leader"] >= 0 for partition in topic["partitions"])
        for topic in topics
    )


@asynccontextmanager
async def admin_client(
    bootstrap: str, timeout_seconds: float
) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started client; the whole block has `timeout_seconds`."""
    milliseconds = round(timeout_seconds * 1000)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=milliseconds)
    with broker_errors():
        try:
            async with asyncio.timeout(timeout_seconds):
                await admin.start()
                yield admin
        finally:
            await ended(admin.close())
