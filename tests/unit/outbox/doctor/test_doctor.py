"""Every check of doctor, on readings of a sound and of a sick part; each is red at least once here.

P4, P6, P11, P12, P15, P24, R14: what doctor calls a warning and what it calls a failure.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from outbox.cursor.database_identity import DatabaseIdentity
from outbox.doctor import (
    CHECKS,
    CheckResult,
    Diagnosis,
    Severity,
    brokers,
    limits,
    progress,
    publications,
    schema,
    server,
)
from outbox.doctor import session as doctor_session
from outbox.doctor import topics as of_topics
from outbox.doctor import transactions as of_transactions
from outbox.doctor.examination import REACHABLE
from outbox.doctor.limits import ServerLimits
from outbox.doctor.progress import ProgressReading
from outbox.doctor.publications import Publications
from outbox.doctor.schema import Days, Ownership, Rights
from outbox.doctor.server import ServerReading, SessionReading
from outbox.doctor.session import Defaults
from outbox.doctor.transactions import Open, Prepared, Transactions
from outbox.kafka import BrokerState, ClusterState, Configuration, TopicState
from outbox.kafka.cluster import UNSUPPORTED
from outbox.postgres.connection import FIXED
from outbox.settings import Settings

OK, WARNING, FAILURE = Severity.OK, Severity.WARNING, Severity.FAILURE
DEVELOPMENT = Settings(profile="development")
PRODUCTION = Settings(profile="production")

SERVER = ServerReading(
    version=18,
    standby=False,
    encoding="UTF8",
    fsync="on",
    full_page_writes="on",
    synchronous_commit="on",
    commit_defaults=[["role app in every database", "remote_apply"]],
    autovacuum="on",
    track_counts="on",
    connections=97,
    connected=20,
    idle_slots=[],
    slot_limit="-1",
)
SESSION = SessionReading(SERVER, direct=True, ahead_seconds=-4.0, within_seconds=0.001)
TRANSACTIONS = Transactions(
    sees_all=True,
    open=[Open(7, "aftercommit", "a report", 59.0)],
    prepared=[Prepared("young", "aftercommit", "app", 1.0)],
)
LIMITS = ServerLimits(
    names="ANY 1 (a, b)", sees_all=True, answering=1, waiting=0, timeouts=[["lock_timeout", "5000"]]
)
PUBLICATIONS = Publications([])
RIGHTS = Rights([], Ownership("relay", "owner", owns=True, creates=True))
DAYS = Days(
    ["messages_default", "messages_20280229", "messages_20280301"], date(2028, 2, 29), False
)
PROGRESS = ProgressReading("host:1:a", 3, True, 5, 59.0, 0)
LINEAGE = DatabaseIdentity(False, "7", 1, "7", 1, False, False, False)
SOUND_SETTINGS = {
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "false",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": "9223372036854775807",
    "message.timestamp.after.max.ms": "3600000",
    "cleanup.policy": "delete",
    "retention.ms": "86400000",
    "compression.type": "uncompressed",
}
TOPIC = TopicState("a.b.events", 4, 3, 3, 0, Configuration(SOUND_SETTINGS))
BROKER = BrokerState(1, "127.0.0.1", 9092, Configuration({"auto.create.topics.enable": "false"}))
CLUSTER = ClusterState(True, [BROKER], [TOPIC])
RECORDED = {"a.b.events": 4}
WAITED_FOR = {"made.events": 2}  # FB5: keys that wait for a topic


def of_cluster(cluster: ClusterState, settings: Settings) -> Iterable[CheckResult]:
    yield from brokers.judge_reachable(cluster)
    yield from brokers.judge_plaintext(cluster.brokers, settings)
    yield from brokers.judge_auto_create(cluster, settings)
    yield from of_topics.judge(cluster, RECORDED, settings, WAITED_FOR)


DEFAULTS = Defaults(dict(FIXED), [("role x", "client_encoding", "utf8")])


def judged(reading: Any, settings: Settings) -> list[CheckResult]:
    """What the one judge of this kind of reading says."""
    judges: dict[type, Any] = {
        SessionReading: server.judge,
        Transactions: of_transactions.judge,
        str: schema.judge_migrations,
        ServerLimits: limits.judge,
        Publications: publications.judge,
        Rights: schema.judge_rights,
        Days: schema.judge_partitions,
        DatabaseIdentity: progress.judge_database_identity,
        ProgressReading: progress.judge,
        Defaults: doctor_session.judge,
        ClusterState: of_cluster,
    }
    return list(judges[type(reading)](reading, settings))


SOUND = (
    SESSION,
    DEFAULTS,
    TRANSACTIONS,
    LIMITS,
    PUBLICATIONS,
    RIGHTS,
    DAYS,
    LINEAGE,
    PROGRESS,
    CLUSTER,
)


def test_of_a_sound_system_every_check_is_ok_in_production() -> None:
    findings = [finding for reading in SOUND for finding in judged(reading, PRODUCTION)]
    findings += schema.judge_migrations(None, PRODUCTION)
    assert [finding for finding in findings if finding.severity is not OK] == []
    asked = [REACHABLE, *dict.fromkeys(finding.check for finding in findings)]
    assert sorted(check.name for check in asked) == sorted(check.name for check in CHECKS)


def on(**change: Any) -> SessionReading:
    return replace(SESSION, server=replace(SERVER, **change))


def with_topic(**change: Any) -> ClusterState:
    return replace(CLUSTER, topics=[replace(TOPIC, **change)])


def told(**change: str) -> ClusterState:
    """A topic with these settings; a dot is written as `__`."""
    values = {name.replace("__", "."): value for name, value in change.items()}
    return with_topic(configuration=Configuration(SOUND_SETTINGS | values))


def at_broker(**change: Any) -> ClusterState:
    return replace(CLUSTER, brokers=[replace(BROKER, **change)])


# check, what is read, severity in development and in production, words that must be there
SICK: list[tuple[str, Any, Severity, Severity, str]] = [
    ("postgres-version", on(version=13), FAILURE, FAILURE, "PostgreSQL 13"),
    ("postgres-version", on(version=19), WARNING, WARNING, "nobody has tested"),
    ("postgres-primary", on(standby=True), FAILURE, FAILURE, "a standby"),
    ("postgres-direct", replace(SESSION, direct=False), FAILURE, FAILURE, "a pooler"),
    ("postgres-encoding", on(encoding="LATIN1"), FAILURE, FAILURE, "LATIN1"),
    (
        "postgres-session",
        replace(DEFAULTS, here=DEFAULTS.here | {"client_encoding": "LATIN1"}),
        FAILURE,
        FAILURE,
        "LATIN1, and not UTF8",
    ),
    (
        "postgres-session-defaults",
        replace(DEFAULTS, given=[("role x in database d", "client_encoding", "LATIN1")]),
        WARNING,
        WARNING,
        "client_encoding = LATIN1",
    ),
    ("postgres-fsync", on(fsync="off"), WARNING, FAILURE, "fsync = off"),
    ("postgres-full-page-writes", on(full_page_writes="off"), WARNING, FAILURE, "= off"),
    (
        "postgres-synchronous-standbys",
        replace(LIMITS, names="FIRST 2 (a, b)", waiting=3),
        FAILURE,
        FAILURE,
        "1 of 2 answer, 3 commits wait",
    ),
    (
        "postgres-synchronous-standbys",
        replace(LIMITS, names="absent", sees_all=False, answering=0),
        WARNING,
        WARNING,
        "GRANT pg_monitor",
    ),
    (
        "postgres-timeouts",
        replace(LIMITS, timeouts=[["lock_timeout", "0"], ["statement_timeout", "4999"]]),
        WARNING,
        WARNING,
        "4999 ms",
    ),
    (
        "outbox-replica-identities",
        Publications([("outbox.messages_default", "published by everything: no identity")]),
        WARNING,
        FAILURE,
        "published by everything",
    ),
    ("postgres-synchronous-commit", on(synchronous_commit="local"), WARNING, WARNING, "= local"),
    (
        "postgres-synchronous-commit",
        on(commit_defaults=[["role x: y=z in database d", "off"]]),
        WARNING,
        WARNING,
        "synchronous_commit = off",
    ),
    ("postgres-autovacuum", on(autovacuum="off"), WARNING, WARNING, "autovacuum = off"),
    ("postgres-autovacuum", on(track_counts="off"), WARNING, WARNING, "track_counts = off"),
    ("postgres-connections", on(connected=88), WARNING, WARNING, "9 of 97"),
    ("postgres-clock", replace(SESSION, ahead_seconds=5.1), WARNING, WARNING, "5.100 s ahead"),
    ("postgres-clock", replace(SESSION, ahead_seconds=-5.1), WARNING, WARNING, "5.100 s behind"),
    (
        "postgres-replication-slots",
        on(idle_slots=[["gone", "123"]]),
        WARNING,
        WARNING,
        "123 bytes of WAL (max_slot_wal_keep_size = -1)",
    ),
    (
        "postgres-open-transactions",
        replace(TRANSACTIONS, open=[Open(4711, "d", "psql", 61.2)]),
        WARNING,
        WARNING,
        "open for 61 s, 'psql' in d",
    ),
    (
        "postgres-open-transactions",
        replace(TRANSACTIONS, sees_all=False),
        WARNING,
        WARNING,
        "pg_monitor",
    ),
    (
        "postgres-prepared-transactions",
        replace(TRANSACTIONS, prepared=[Prepared("orphan", "d", "app", 3600.0)]),
        WARNING,
        WARNING,
        "prepared 3600 s ago by app in d",
    ),
    ("outbox-migrations", "not applied: outbox 0004", FAILURE, FAILURE, "outbox 0004"),
    (
        "outbox-rights",
        replace(RIGHTS, lacking=[("relay", "UPDATE")]),
        FAILURE,
        FAILURE,
        "relay lacks UPDATE",
    ),
    ("outbox-rights", Rights([], None), WARNING, WARNING, "there is no outbox"),
    (
        "outbox-partition-rights",
        Rights([], Ownership("relay", "owner", owns=False, creates=False)),
        WARNING,
        WARNING,
        "to owner, of which relay is no member; relay may not create in its schema",
    ),
    (
        "outbox-partitions",
        replace(DAYS, attached=["messages_default", "messages_20280229"]),
        WARNING,
        WARNING,
        "no partition",
    ),
    ("outbox-default-partition", replace(DAYS, default_used=True), WARNING, WARNING, "holds rows"),
    ("outbox-lineage", replace(LINEAGE, timeline=2), FAILURE, FAILURE, "was 1 and is 2"),
    ("outbox-relay", replace(PROGRESS, leading=False), WARNING, WARNING, "nobody leads"),
    ("outbox-backlog", replace(PROGRESS, oldest_seconds=61.0), WARNING, FAILURE, "for 61 s"),
    ("outbox-parked-keys", replace(PROGRESS, parked_keys=2), WARNING, WARNING, "2 keys"),
    ("kafka-plaintext", at_broker(host="kafka"), WARNING, FAILURE, "over a network"),
    (
        "kafka-auto-create-topics",
        at_broker(configuration=Configuration({"auto.create.topics.enable": "true"})),
        WARNING,
        FAILURE,
        "= true",
    ),
    (
        "kafka-auto-create-topics",
        at_broker(configuration=Configuration(refused="ClusterAuthorizationFailedError")),
        WARNING,
        WARNING,
        "not answered: Cluster",
    ),
    (
        "topic-exists",
        with_topic(partitions=0, configuration=Configuration(refused="UnknownTopic")),
        FAILURE,
        FAILURE,
        "UnknownTopic",
    ),
    ("topic-exists", with_topic(partitions=0), FAILURE, FAILURE, "hidden from us"),
    (
        "topic-exists",
        replace(with_topic(partitions=0), supported=False),
        WARNING,
        WARNING,
        "by itself",
    ),
    (
        "topic-parked-keys",
        with_topic(name="made.events"),
        FAILURE,
        FAILURE,
        "2 keys wait to be released",
    ),
    ("topic-partitions", with_topic(partitions=3), FAILURE, FAILURE, "3 partitions, recorded were"),
    ("topic-partitions", with_topic(partitions=5), WARNING, WARNING, "5 partitions, recorded were"),
    ("topic-writable", with_topic(leaderless=1), FAILURE, FAILURE, "1 partitions have no leader"),
    ("topic-writable", with_topic(in_sync=1), FAILURE, FAILURE, "1 in sync, 2 must be"),
    ("topic-replication", with_topic(replicas=2), WARNING, FAILURE, "2 replicas"),
    ("topic-min-insync", told(min__insync__replicas="1"), WARNING, FAILURE, "= 1"),
    (
        "topic-unclean-election",
        told(unclean__leader__election__enable="true"),
        WARNING,
        FAILURE,
        "= true",
    ),
    ("topic-max-message-bytes", told(max__message__bytes="987135"), FAILURE, FAILURE, "= 987135"),
    (
        "topic-timestamps",
        told(message__timestamp__before__max__ms="14999"),
        WARNING,
        WARNING,
        "before.max.ms = 14999",
    ),
    (
        "topic-timestamps",
        told(message__timestamp__after__max__ms="4999"),
        WARNING,
        WARNING,
        "after.max.ms = 4999",
    ),
    ("topic-cleanup", told(cleanup__policy="compact,delete"), WARNING, WARNING, "= compact,delete"),
    ("topic-retention", told(retention__ms="86399999"), WARNING, WARNING, "= 86399999"),
    ("topic-compression", told(compression__type="producer"), WARNING, WARNING, "= producer"),
]


@pytest.mark.parametrize(
    ("name", "reading", "development", "production", "words"),
    SICK,
    ids=[f"{number}-{case[0]}" for number, case in enumerate(SICK)],
)
def test_what_is_not_as_expected_is_found_and_is_as_bad_as_the_profile_says(
    name: str, reading: Any, development: Severity, production: Severity, words: str
) -> None:
    for settings, severity in ((DEVELOPMENT, development), (PRODUCTION, production)):
        findings = judged(reading, settings)
        (bad,) = [f for f in findings if f.check.name == name and f.severity is not OK]
        assert (bad.severity, words in bad.found) == (severity, True), bad
        assert Diagnosis(settings.profile, findings).failed == (severity is FAILURE)


def test_no_check_is_left_that_was_never_red() -> None:
    """The two that ask whether anybody answers are red where nobody does: tests/integration."""
    unreachable = {"postgres-reachable", "kafka-reachable"}
    assert {name for name, *_ in SICK} | unreachable == {check.name for check in CHECKS}


def test_names_are_unique_and_every_check_says_what_repairs_it() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert check.name == check.name.lower().replace("_", "-").replace(" ", "-")
        assert check.expected
        assert check.repair


def test_a_setting_that_an_older_broker_does_not_have_limits_nothing() -> None:
    """Before Kafka 3.6 there is one limit of timestamps for both directions."""
    values = {k: v for k, v in SOUND_SETTINGS.items() if not k.endswith("r.max.ms")}
    values = {k: v for k, v in values.items() if not k.endswith("before.max.ms")}
    for limit, severity in (("9223372036854775807", OK), ("1000", WARNING)):
        older = values | {"message.timestamp.difference.max.ms": limit}
        found = judged(with_topic(configuration=Configuration(older)), PRODUCTION)
        assert severity_of("topic-timestamps", found) is severity


def test_a_topic_that_stamps_records_itself_refuses_no_time() -> None:
    narrow = told(message__timestamp__type="LogAppendTime", message__timestamp__before__max__ms="1")
    assert severity_of("topic-timestamps", judged(narrow, PRODUCTION)) is OK


def test_what_a_stand_in_cannot_be_asked_is_a_warning_for_each_check_and_never_ok() -> None:
    """On a stand-in, however many topics it has."""
    silent = Configuration(refused=UNSUPPORTED)
    topics = [replace(TOPIC, name=f"topic-{n}", configuration=silent) for n in range(3)]
    cluster = ClusterState(False, [replace(BROKER, configuration=silent)], topics)
    findings = judged(cluster, PRODUCTION)
    for check in (brokers.AUTO_CREATE, *(rule.check for rule in of_topics.RULES)):
        (finding,) = [f for f in findings if f.check is check]
        assert (finding.severity, "a stand-in?" in finding.found) == (WARNING, True)


def test_where_no_topic_is_there_none_is_called_right() -> None:
    findings = judged(with_topic(partitions=0), PRODUCTION)
    severities = {f.check.name: f.severity for f in findings if f.check in of_topics.CHECKS}
    assert severities.pop("topic-exists") is FAILURE
    assert set(severities.values()) == {WARNING}
    assert len(severities) == len(of_topics.CHECKS) - 1


def test_parked_keys_that_postgresql_did_not_tell_are_not_called_released() -> None:
    (finding,) = of_topics.released([TOPIC], None, PRODUCTION)
    assert finding.severity is WARNING


def test_counts_that_postgresql_did_not_tell_are_not_called_right() -> None:
    (finding,) = of_topics.partitions([TOPIC], None, PRODUCTION)
    assert finding.severity is WARNING


@pytest.mark.parametrize(
    ("address", "fine"),
    [
        ("127.0.0.1:9092", True),
        ("127.1.2.3", True),
        ("localhost:9092", True),
        ("[::1]:9092", True),
        ("kafka:9092", False),
        ("10.0.0.1:9092", False),
        ("[2001:db8::1]:9092", False),
        ("127.0.0.1:9092, kafka:9092", False),
        ("localhost.example:9092", False),
    ],
)
def test_plaintext_is_for_this_machine_only(address: str, fine: bool) -> None:
    settings = Settings(profile="production", kafka_url=address)
    findings = list(brokers.judge_plaintext([], settings))
    assert [f.severity for f in findings] == [OK if fine else FAILURE]


def severity_of(name: str, findings: Iterable[CheckResult]) -> Severity:
    (found,) = {finding.severity for finding in findings if finding.check.name == name}
    return found
