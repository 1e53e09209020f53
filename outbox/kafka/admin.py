"""Admin: topics, which are created on request only, and questions that a broker answers."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from outbox.errors import DependencyDown, NotPossible
from outbox.kafka.errors import broker_errors, start_client, wait_until_client_ended

TIMEOUT_SECONDS = 30.0
NAME = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}")
NAME_RULE = "a topic's name has 1 to 249 letters, digits, dots, underscores and hyphens"
NO_REQUEST = (
    "this broker has no such request: a stand-in has no admin API, and makes topics when used"
)
PAUSE_SECONDS = 0.05


async def create_topics(
    bootstrap: str,
    names: Iterable[str],
    partitions: int,
    replication: int = 1,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> list[str]:
    """Create the topics that are missing; return their names once every topic has its leaders.

    A topic that exists is left alone, whatever its partitions and settings are. NotPossible where
    the broker refuses one; other topics of the same call may have been created by then, and
    repeating the call is safe. librdkafka's mock broker has no such request, so NotPossible there
    too. DependencyDown where the broker does not answer in time.
    """
    wanted = sorted(set(names))
    for name in wanted:
        require_name(name)
    topics = [
        NewTopic(name, partitions, replication, topic_configs=topic_configuration(replication))
        for name in wanted
    ]
    async with admin_client(bootstrap, timeout_seconds) as admin:
        if admin._client.cluster.controller is None:
            raise NotPossible(NO_REQUEST)
        response = await admin.create_topics(topics)
        answers = response.topic_errors
        created = [name for name, code, *text in answers if _is_new(name, code, text)]
        while not await _have_leaders(admin, wanted):  # noqa: ASYNC110 - the broker has no event
            await asyncio.sleep(PAUSE_SECONDS)
    return created


def topic_configuration(replication: int) -> dict[str, str]:
    """Return the settings that each of our topics is created with.

    Topics are uncompressed, because a client inflates a whole batch without a limit. All replicas
    but one must have a record before it is acknowledged, and a replica that lacks it may not lead.
    """
    return {
        "compression.type": "uncompressed",
        "min.insync.replicas": str(max(1, replication - 1)),
        "unclean.leader.election.enable": "false",
    }


def require_name(name: str) -> None:
    """Raise NotPossible where Kafka would not take the name of a topic."""
    if not NAME.fullmatch(name):
        raise NotPossible(f"topic {name!a:.60}: {NAME_RULE}")


async def existing_topics(bootstrap: str, timeout_seconds: float = TIMEOUT_SECONDS) -> set[str]:
    """Return the names of all topics that we may see.

    No topic is asked for by name, because a broker may create those that are.
    """
    async with admin_client(bootstrap, timeout_seconds) as admin:
        return set(await admin.list_topics())


async def cluster_id(bootstrap: str, timeout_seconds: float = TIMEOUT_SECONDS) -> str:
    """Return the id of the cluster; DependencyDown where no broker gives it in time."""
    async with admin_client(bootstrap, timeout_seconds) as admin:
        return str((await admin.describe_cluster())["cluster_id"])


async def read_committed_offsets(
    bootstrap: str, group: str, timeout_seconds: float
) -> dict[TopicPartition, int]:
    """Return all offsets that the group has committed, of whatever topics.

    NotPossible where the broker does not list them, which is so with a stand-in; DependencyDown
    where it does not answer in time.
    """
    async with admin_client(bootstrap, timeout_seconds) as admin:
        try:
            answer = await admin.list_consumer_group_offsets(group)
        except TypeError as error:  # aiokafka raises it where the answer has no list at all
            raise NotPossible(NO_REQUEST) from error
    return {tp: at.offset for tp, at in answer.items() if at.offset >= 0}


def _is_new(name: str, code: int, text: list[str | None]) -> bool:
    """Return whether the topic was created; raise where the broker refused it."""
    if code == TopicAlreadyExistsError.errno:
        return False
    if not code:
        return True
    error = for_code(code)
    why = f"{name}: {error.__name__} {' '.join(filter(None, text))}".strip()
    if error.retriable:
        raise DependencyDown("kafka", why)
    raise NotPossible(f"Kafka does not make the topic {why}")


async def _have_leaders(admin: AIOKafkaAdminClient, names: list[str]) -> bool:
    """Return whether every partition of every topic has a leader."""
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
    """Give a started admin client; the whole block has `timeout_seconds`, or DependencyDown."""
    milliseconds = round(timeout_seconds * 1000)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=milliseconds)
    with broker_errors():
        try:
            async with asyncio.timeout(timeout_seconds):
                await start_client(admin)
                yield admin
        finally:
            await wait_until_client_ended(admin.close())
