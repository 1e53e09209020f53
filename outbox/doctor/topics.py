"""Checks of topics: whether those we publish to are there, and keep what they acknowledge."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from outbox.doctor.diagnosis import (
    Check,
    CheckResult,
    SeverityPolicy,
    judge_each,
    report_unanswered,
)
from outbox.kafka import BATCH_BYTES, ClusterState, TopicState
from outbox.settings import Settings

Values = Mapping[str, str]

REPLICAS, IN_SYNC = 3, 2
NO_LIMIT = str(1 << 62)
HIDDEN = "there, but hidden from us: no right to DESCRIBE it"
ALTER = "kafka-configs.sh --alter --entity-type topics --entity-name <topic> --add-config "

EXISTS = Check(
    "topic-exists",
    SeverityPolicy.FATAL,
    "every topic that messages go to is there: the keys of one that is missing are parked",
    "python -m outbox topics",
)
RELEASED = Check(
    "topic-parked-keys",
    SeverityPolicy.FATAL,
    "no key waits for a topic that is there by now: the relay does not try again by itself",
    'python -m outbox parked release --topic <topic> --reason "..."',
)
PARTITIONS = Check(
    "topic-partitions",
    SeverityPolicy.FATAL,
    "as many partitions as when the relay first published there: with fewer it is another topic of"
    " that name, and its keys are parked; more are a warning, since they stay empty",
    "create the topic again with that many partitions; nothing can be done about more",
)
WRITABLE = Check(
    "topic-writable",
    SeverityPolicy.FATAL,
    "every partition has a leader, and min.insync.replicas replicas in sync: otherwise nothing is"
    " acknowledged there, and the relay waits with everything",
    "look after the brokers that are missing, or lower min.insync.replicas to what there is",
)
REPLICATION = Check(
    "topic-replication",
    SeverityPolicy.GRAVE,
    f"{REPLICAS} replicas: with fewer, one broker's disk is all that stands between you and a loss",
    "kafka-reassign-partitions.sh, or python -m outbox topics --replication 3 before the first use",
)
MIN_IN_SYNC = Check(
    "topic-min-insync",
    SeverityPolicy.GRAVE,
    f"min.insync.replicas >= {IN_SYNC}: with 1, a record is acknowledged that one disk alone holds",
    f"{ALTER}min.insync.replicas={IN_SYNC}",
)
UNCLEAN = Check(
    "topic-unclean-election",
    SeverityPolicy.GRAVE,
    "unclean.leader.election.enable = false: a replica that lacks acknowledged records must not"
    " lead, or they are lost",
    f"{ALTER}unclean.leader.election.enable=false",
)
MAX_BYTES = Check(
    "topic-max-message-bytes",
    SeverityPolicy.FATAL,
    f"max.message.bytes >= {BATCH_BYTES}, which a batch of ours may have: below that, batches are"
    " refused and halved, and the key of a large message is parked",
    f"{ALTER}max.message.bytes=1048588",
)
TIMESTAMPS = Check(
    "topic-timestamps",
    SeverityPolicy.MILD,
    "records as old as two publish timeouts, or from a clock as far ahead as"
    " AFTERCOMMIT_DOCTOR_CLOCK_SECONDS, are taken; others are refused, and their keys parked",
    f"{ALTER}message.timestamp.before.max.ms=3600000,message.timestamp.after.max.ms=3600000",
)
CLEANUP = Check(
    "topic-cleanup",
    SeverityPolicy.MILD,
    "cleanup.policy without compact: what compaction removed, nobody can compare with the outbox",
    f"{ALTER}cleanup.policy=delete",
)
RETENTION = Check(
    "topic-retention",
    SeverityPolicy.MILD,
    "retention.ms of at least AFTERCOMMIT_DOCTOR_RETENTION_HOURS: a consumer that is away for"
    " longer misses messages",
    f"{ALTER}retention.ms=604800000",
)
COMPRESSION = Check(
    "topic-compression",
    SeverityPolicy.MILD,
    "compression.type = uncompressed: a client inflates a whole batch without a limit",
    f"{ALTER}compression.type=uncompressed",
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A check of a topic's settings; the first of `names` is one that every Kafka has."""

    check: Check
    names: tuple[str, ...]
    fine: Callable[[Values, Settings], bool]

    def describe(self, values: Values) -> str:
        return ", ".join(f"{name} = {values[name]}" for name in self.names if name in values)


def at_least(name: str, least: int) -> Callable[[Values, Settings], bool]:
    """Return a rule that wants the number of this setting to be at least `least`."""
    return lambda values, _: int(values[name]) >= least


def equals(name: str, value: str) -> Callable[[Values, Settings], bool]:
    """Return a rule that wants this setting to have this value."""
    return lambda values, _: values[name] == value


def takes_our_timestamps(values: Values, settings: Settings) -> bool:
    """Return whether the topic takes timestamps as old as ours may become.

    A batch is packed while the one before it is being sent, and then has a whole publish timeout of
    its own, hence two of them. Brokers before 3.6 have one limit for both directions.
    """
    if values["message.timestamp.type"] == "LogAppendTime":
        return True
    both = values.get("message.timestamp.difference.max.ms", NO_LIMIT)
    before = int(values.get("message.timestamp.before.max.ms", both))
    after = int(values.get("message.timestamp.after.max.ms", both))
    ahead = settings.doctor_clock_seconds
    behind = 2 * settings.publish_timeout_seconds + ahead
    return before >= behind * 1000 and after >= ahead * 1000


def retains_long_enough(values: Values, settings: Settings) -> bool:
    retention_ms = int(values["retention.ms"])
    return retention_ms < 0 or retention_ms >= settings.doctor_retention_hours * 3_600_000


TIMES = ("type", "before.max.ms", "after.max.ms", "difference.max.ms")
RULES = (
    Rule(MIN_IN_SYNC, ("min.insync.replicas",), at_least("min.insync.replicas", IN_SYNC)),
    Rule(
        UNCLEAN,
        ("unclean.leader.election.enable",),
        equals("unclean.leader.election.enable", "false"),
    ),
    Rule(MAX_BYTES, ("max.message.bytes",), at_least("max.message.bytes", BATCH_BYTES)),
    Rule(TIMESTAMPS, tuple(f"message.timestamp.{name}" for name in TIMES), takes_our_timestamps),
    Rule(CLEANUP, ("cleanup.policy",), lambda values, _: "compact" not in values["cleanup.policy"]),
    Rule(RETENTION, ("retention.ms",), retains_long_enough),
    Rule(COMPRESSION, ("compression.type",), equals("compression.type", "uncompressed")),
)
SETTINGS = tuple(name for rule in RULES for name in rule.names)
CHECKS = (EXISTS, RELEASED, PARTITIONS, WRITABLE, REPLICATION, *(rule.check for rule in RULES))


def judge(
    cluster: ClusterState,
    recorded: Mapping[str, int] | None,
    settings: Settings,
    waiting: Mapping[str, int] | None = None,
) -> Iterator[CheckResult]:
    """Judge all topics; where none is there, only that is a failure and the rest is not answered.

    `recorded` are the partition counts that PostgreSQL keeps, and `waiting` the number of keys that
    wait for a topic to be made; each is None where PostgreSQL did not answer.
    """
    there = [topic for topic in cluster.topics if topic.partitions]
    yield from judge_existence(cluster, settings)
    if not there:
        yield from report_unanswered(CHECKS[1:], "no topic is there")
        return
    yield from judge_parked_keys(there, waiting, settings)
    yield from judge_partitions(there, recorded, settings)
    yield from judge_writable(there, settings)
    few = [(t.name, f"{t.replicas} replicas") for t in there if t.replicas < REPLICAS]
    yield from judge_each(REPLICATION, settings, few, count_topics(there))
    for rule in RULES:
        yield from judge_rule(rule, there, settings)


def judge_existence(cluster: ClusterState, settings: Settings) -> list[CheckResult]:
    """A broker that does not tell its settings may be one that makes topics when they are used."""
    missing = [topic for topic in cluster.topics if not topic.partitions]
    if missing and not cluster.supported:
        words = "not there; this broker does not tell whether it makes topics by itself"
        return [EXISTS.warning(words, topic.name) for topic in missing]
    found = [(topic.name, topic.configuration.refused or HIDDEN) for topic in missing]
    return judge_each(EXISTS, settings, found, count_topics(cluster.topics))


def judge_parked_keys(
    there: list[TopicState], waiting: Mapping[str, int] | None, settings: Settings
) -> list[CheckResult]:
    if waiting is None:
        return report_unanswered(
            [RELEASED], "PostgreSQL keeps the parked keys, and did not tell them"
        )
    found = [
        (topic.name, f"it is there now, and {waiting[topic.name]} keys wait to be released")
        for topic in there
        if topic.name in waiting
    ]
    return judge_each(RELEASED, settings, found, "no key waits for a topic that is there")


def judge_partitions(
    there: list[TopicState], recorded: Mapping[str, int] | None, settings: Settings
) -> list[CheckResult]:
    if recorded is None:
        return report_unanswered([PARTITIONS], "PostgreSQL keeps the counts, and did not tell them")
    known = [topic for topic in there if topic.name in recorded]
    grown = [
        PARTITIONS.warning(describe_partitions(topic, recorded), topic.name)
        for topic in known
        if topic.partitions > recorded[topic.name]
    ]
    fewer = [
        (topic.name, describe_partitions(topic, recorded))
        for topic in known
        if topic.partitions < recorded[topic.name]
    ]
    if grown and not fewer:
        return grown
    return [*judge_each(PARTITIONS, settings, fewer, f"{count_topics(known)}, as recorded"), *grown]


def describe_partitions(topic: TopicState, recorded: Mapping[str, int]) -> str:
    return f"{topic.partitions} partitions, recorded were {recorded[topic.name]}"


def judge_writable(there: list[TopicState], settings: Settings) -> list[CheckResult]:
    found = []
    for topic in there:
        needed = int(topic.configuration.values.get("min.insync.replicas", "1"))
        if topic.leaderless:
            found.append((topic.name, f"{topic.leaderless} partitions have no leader"))
        elif topic.in_sync < needed:
            found.append((topic.name, f"{topic.in_sync} in sync, {needed} must be"))
    return judge_each(WRITABLE, settings, found, count_topics(there))


def judge_rule(rule: Rule, there: list[TopicState], settings: Settings) -> Iterator[CheckResult]:
    """Yield a finding for each topic that breaks the rule, and one for all that keep it."""
    silent = {t.name: t.configuration for t in there if rule.names[0] not in t.configuration.values}
    answered = {t.name: t.configuration.values for t in there if t.name not in silent}
    wrong = [
        (name, rule.describe(values))
        for name, values in answered.items()
        if not rule.fine(values, settings)
    ]
    for reason in sorted({each.refused or "no such setting" for each in silent.values()}):
        yield from report_unanswered([rule.check], reason)
    if answered:
        yield from judge_each(rule.check, settings, wrong, f"{len(answered)} topics")


def count_topics(topics: Sequence[TopicState]) -> str:
    return f"{len(topics)} topics"
