"""Topics: made on request, never by themselves; and the question whether a broker answers."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from outbox.errors import DependencyDown, NotPossible
from outbox.kafka.errors import broker_errors, wait_until_client_ended

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
    """Make the topics that are missing and return their names, once every topic has its leaders.

    One that exists is left alone, whatever its partitions and settings are. NotPossible where the
    broker refuses one: others of the same call may have been made then, and a repetition is safe.
    So it is with librdkafka's mock broker, which has no such request.
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
        while not await _led(admin, wanted):  # noqa: ASYNC110 - the broker has no event
            await asyncio.sleep(PAUSE_SECONDS)
    return created


def topic_configuration(replication: int) -> dict[str, str]:
    """What every topic of ours is told.

    Uncompressed, because a client inflates a whole batch without a limit. All replicas but one
    must have a record before it is acknowledged, and none that lacks it may lead.
    """
    return {
        "compression.type": "uncompressed",
        "min.insync.replicas": str(max(1, replication - 1)),
        "unclean.leader.election.enable": "false",
    }


def require_name(name: str) -> None:
    """NotPossible where Kafka would not take the name."""
    if not NAME.fullmatch(name):
        raise NotPossible(f"topic {name!a:.60}: {NAME_RULE}")


async def existing_topics(bootstrap: str, timeout_seconds: float = TIMEOUT_SECONDS) -> set[str]:
    """All that we may see. No name is asked for: a broker may make those that are."""
    async with admin_client(bootstrap, timeout_seconds) as admin:
        return set(await admin.list_topics())


async def cluster_id(bootstrap: str, timeout_seconds: float = TIMEOUT_SECONDS) -> str:
    """The id of the cluster, from its own metadata; DependencyDown where nobody gives it."""
    async with admin_client(bootstrap, timeout_seconds) as admin:
        return str((await admin.describe_cluster())["cluster_id"])


def _is_new(name: str, code: int, text: list[str | None]) -> bool:
    """Whether the answer says that it was made; an error where it was refused."""
    if code == TopicAlreadyExistsError.errno:
        return False
    if not code:
        return True
    error = for_code(code)
    why = f"{name}: {error.__name__} {' '.join(filter(None, text))}".strip()
    if error.retriable:
        raise DependencyDown("kafka", why)
    raise NotPossible(f"Kafka does not make the topic {why}")


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
            await wait_until_client_ended(admin.close())
