"""Doctor finds what is wrong with topics and brokers: R14, rule D9, and what would park keys.

The mock broker has no settings to be wrong, so these are skipped without a real one.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from consumers.settings import Settings
from outbox.doctor import CheckResult, Severity
from outbox.doctor.examination import PostgresExamination, examine_kafka
from outbox.kafka import describe_cluster
from outbox.relay.partition_counts import read_topics, record_topics
from schemas.registry import REGISTRY
from stack.servers.kafka import KafkaServer
from tests.conftest import Servers
from tests.kit.topics import all_done, topics
from tests.kit.waiting import until

# mypy: disable-error-code="attr-defined"
# (confluent_kafka re-exports the names of its admin client without saying so)

pytestmark = pytest.mark.anyio

OK, WARNING, FAILURE = Severity.OK, Severity.WARNING, Severity.FAILURE
SICK, FEWER, MORE, GONE = (f"sick.{name}.events" for name in ("thing", "fewer", "more", "gone"))
CONFIGURATION = {
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "true",
    "max.message.bytes": "20000",
    "message.timestamp.before.max.ms": "1000",
    "cleanup.policy": "compact",
    "retention.ms": "3600000",
    "compression.type": "gzip",
}
# What each is found as: the severity in development and in production, and the words.
FOUND = {
    "topic-writable": (FAILURE, FAILURE, "1 in sync, 2 must be"),
    "topic-replication": (WARNING, FAILURE, "1 replicas"),
    "topic-unclean-election": (WARNING, FAILURE, "unclean.leader.election.enable = true"),
    "topic-max-message-bytes": (FAILURE, FAILURE, "max.message.bytes = 20000"),
    "topic-timestamps": (WARNING, WARNING, "message.timestamp.before.max.ms = 1000"),
    "topic-cleanup": (WARNING, WARNING, "cleanup.policy = compact"),
    "topic-retention": (WARNING, WARNING, "retention.ms = 3600000"),
    "topic-compression": (WARNING, WARNING, "compression.type = gzip"),
}


@pytest.fixture(autouse=True)
def admin(servers: Servers, kafka_url: str) -> AdminClient:
    """An admin client; its topics are removed before the next test."""
    if not servers.real_kafka:
        pytest.skip("the mock broker has no settings")
    return AdminClient({"bootstrap.servers": kafka_url})


async def examined(
    settings: Settings, recorded: Mapping[str, int], profile: str = "development"
) -> list[CheckResult]:
    return await examine_kafka(
        settings.model_copy(update={"profile": profile}), PostgresExamination([], recorded)
    )


async def make(settings: Settings, admin: AdminClient, *new: NewTopic) -> None:
    """Create topics; return once the broker shows them with their leaders."""
    all_done(admin.create_topics(list(new)).values())

    async def there() -> bool:
        cluster = await describe_cluster(
            settings.kafka_url, [each.topic for each in new], [], [], 20.0
        )
        return all(topic.partitions and not topic.leaderless for topic in cluster.topics)

    await until(there, 20)


def of(findings: list[CheckResult], name: str, subject: str) -> CheckResult:
    (finding,) = [f for f in findings if f.check.name == name and f.subject == subject]
    return finding


@pytest.mark.parametrize("profile", ["development", "production"])
async def test_each_setting_of_a_topic_that_loses_refuses_or_forgets_is_found(
    settings: Settings, admin: AdminClient, profile: str
) -> None:
    """R14, F11: what would refuse a record is a failure in every profile."""
    await make(settings, admin, NewTopic(SICK, 4, 1, config=CONFIGURATION))
    findings = await examined(settings, {SICK: 4}, profile)
    for name, (development, production, words) in FOUND.items():
        finding = of(findings, name, SICK)
        assert finding.severity is (production if profile == "production" else development)
        assert words in finding.found
    one = of(findings, "topic-min-insync", REGISTRY.topics()[0])
    assert one.severity is (FAILURE if profile == "production" else WARNING)
    assert one.found == "min.insync.replicas = 1"


async def test_a_topic_is_compared_with_what_the_relay_recorded_of_it(
    settings: Settings, admin: AdminClient, postgres: psycopg.AsyncConnection
) -> None:
    """One has more partitions, one has fewer, and one is not there."""
    await record_topics(postgres, {SICK: 4, FEWER: 5, MORE: 3, GONE: 1}, {})
    await make(settings, admin, *(NewTopic(name, 4, 1) for name in (SICK, FEWER, MORE)))
    findings = await examined(settings, await read_topics(postgres))
    fewer, more = (of(findings, "topic-partitions", name) for name in (FEWER, MORE))
    assert (fewer.severity, fewer.found) == (FAILURE, "4 partitions, recorded were 5")
    assert (more.severity, more.found) == (WARNING, "4 partitions, recorded were 3")
    gone = of(findings, "topic-exists", GONE)
    assert (gone.severity, "UnknownTopic" in gone.found) == (FAILURE, True)
    assert [f.subject for f in findings if f.check.name == "topic-exists"] == [GONE]
    assert GONE not in topics(admin)


DENIED = {
    "DESCRIBE_CONFIGS": ("topic-compression", WARNING, "", "TopicAuthorizationFailedError"),
    "DESCRIBE": ("topic-exists", FAILURE, SICK, "hidden from us"),
}


@pytest.mark.parametrize("operation", DENIED)
async def test_what_a_broker_does_not_let_us_see_is_not_called_right(
    settings: Settings, admin: AdminClient, operation: str
) -> None:
    """It may hide a topic's settings, or that there is such a topic at all."""
    name, severity, subject, words = DENIED[operation]
    await make(settings, admin, NewTopic(SICK, 4, 1))

    async def found() -> bool:
        findings = [f for f in await examined(settings, {SICK: 4}) if f.check.name == name]
        return any(
            words in f.found and (f.severity, f.subject) == (severity, subject) for f in findings
        )

    assert not await found()
    with denied(admin, AclOperation[operation]):
        await until(found, 20)  # the broker learns of it a moment later


@contextmanager
def denied(admin: AdminClient, operation: AclOperation) -> Iterator[None]:
    """Deny everybody this operation on the topic, and no other one, for the length of the block."""
    everybody = (ResourceType.TOPIC, SICK, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*")
    rules = (
        (*everybody, AclOperation.ALL, AclPermissionType.ALLOW),
        (*everybody, operation, AclPermissionType.DENY),
    )
    all_done(admin.create_acls([AclBinding(*rule) for rule in rules]).values())
    try:
        yield
    finally:
        for deleted in admin.delete_acls([AclBindingFilter(*rule) for rule in rules]).values():
            deleted.result(20)


class AutoCreating(KafkaServer):
    """A broker that creates each topic that a client names."""

    def properties(self, data: Path, ports: tuple[int, ...]) -> dict[str, object]:
        return super().properties(data, ports) | {"auto.create.topics.enable": "true"}


@pytest.fixture
async def auto_creating(tmp_path: Path) -> AsyncIterator[KafkaServer]:
    async with AutoCreating(tmp_path) as kafka:
        yield kafka


async def test_a_broker_that_makes_topics_by_itself_is_found_and_makes_none_for_doctor(
    settings: Settings, auto_creating: KafkaServer
) -> None:
    """D9: had doctor asked for topics by name, the broker would have created all of them."""
    own = settings.model_copy(update={"kafka_url": auto_creating.url})
    for profile, severity in (("development", WARNING), ("production", FAILURE)):
        findings = await examined(own, {}, profile)
        finding = of(findings, "kafka-auto-create-topics", "broker 1")
        assert (finding.severity, "= true" in finding.found) == (severity, True)
    assert {f.subject for f in findings if f.check.name == "topic-exists"} == {*REGISTRY.topics()}
    assert topics(AdminClient({"bootstrap.servers": auto_creating.url})) == []
