"""Readings of a sound PostgreSQL and a sound Kafka, which tests of doctor make sick one by one."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import Any

from outbox.cursor.database_identity import DatabaseIdentity
from outbox.doctor import (
    CheckResult,
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
from outbox.doctor.limits import ServerLimits
from outbox.doctor.progress import ProgressReading
from outbox.doctor.publications import Publications
from outbox.doctor.schema import DailyPartitions, Ownership, Rights
from outbox.doctor.server import ServerReading, SessionReading
from outbox.doctor.session import Defaults
from outbox.doctor.transactions import OpenTransaction, PreparedTransaction, Transactions
from outbox.kafka import BrokerState, ClusterState, Configuration, TopicState
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
    open=[OpenTransaction(7, "aftercommit", "a report", 59.0)],
    prepared=[PreparedTransaction("young", "aftercommit", "app", 1.0)],
)
LIMITS = ServerLimits(
    names="ANY 1 (a, b)", sees_all=True, answering=1, waiting=0, timeouts=[["lock_timeout", "5000"]]
)
PUBLICATIONS = Publications([])
RIGHTS = Rights([], Ownership("relay", "owner", owns=True, creates=True))
DAYS = DailyPartitions(
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


def judge_cluster(cluster: ClusterState, settings: Settings) -> Iterable[CheckResult]:
    """Yield the findings of every check of brokers and topics."""
    yield from brokers.judge_reachable(cluster)
    yield from brokers.judge_plaintext(cluster.brokers, settings)
    yield from brokers.judge_auto_create(cluster, settings)
    yield from of_topics.judge(cluster, RECORDED, settings, WAITED_FOR)


DEFAULTS = Defaults(dict(FIXED), [("role x", "client_encoding", "utf8")])


def judge(reading: Any, settings: Settings) -> list[CheckResult]:
    """Return what the one judge of this kind of reading finds."""
    judges: dict[type, Any] = {
        SessionReading: server.judge,
        Transactions: of_transactions.judge,
        str: schema.judge_migrations,
        ServerLimits: limits.judge,
        Publications: publications.judge,
        Rights: schema.judge_rights,
        DailyPartitions: schema.judge_partitions,
        DatabaseIdentity: progress.judge_database_identity,
        ProgressReading: progress.judge,
        Defaults: doctor_session.judge,
        ClusterState: judge_cluster,
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


def on_server(**change: Any) -> SessionReading:
    """Return the sound session, with these fields of its server changed."""
    return replace(SESSION, server=replace(SERVER, **change))


def with_topic(**change: Any) -> ClusterState:
    """Return the sound cluster, with these fields of its topic changed."""
    return replace(CLUSTER, topics=[replace(TOPIC, **change)])


def with_settings(**change: str) -> ClusterState:
    """Return the cluster with these settings of its topic; a dot is written as `__`."""
    values = {name.replace("__", "."): value for name, value in change.items()}
    return with_topic(configuration=Configuration(SOUND_SETTINGS | values))


def at_broker(**change: Any) -> ClusterState:
    """Return the sound cluster, with these fields of its broker changed."""
    return replace(CLUSTER, brokers=[replace(BROKER, **change)])


def severity_of(name: str, findings: Iterable[CheckResult]) -> Severity:
    """Return the one severity that the check of this name has among the findings."""
    (found,) = {finding.severity for finding in findings if finding.check.name == name}
    return found
