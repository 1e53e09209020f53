"""Every check of doctor, on readings of a sound and of a sick part; each is red at least once here.

P4, P6, P11, P12, P15, P24, R14: what doctor calls a warning and what it calls a failure.
"""

from dataclasses import replace
from typing import Any

import pytest

from outbox.doctor import CHECKS, Diagnosis, Severity, schema
from outbox.doctor.examination import REACHABLE
from outbox.doctor.publications import Publications
from outbox.doctor.schema import Ownership, Rights
from outbox.doctor.transactions import OpenTransaction, PreparedTransaction
from outbox.kafka import Configuration
from tests.kit.operations.doctor_readings import (
    DAYS,
    DEFAULTS,
    DEVELOPMENT,
    FAILURE,
    LIMITS,
    LINEAGE,
    OK,
    PRODUCTION,
    PROGRESS,
    RIGHTS,
    SESSION,
    SOUND,
    TRANSACTIONS,
    WARNING,
    at_broker,
    judge,
    on_server,
    with_settings,
    with_topic,
)


def test_of_a_sound_system_every_check_is_ok_in_production() -> None:
    findings = [finding for reading in SOUND for finding in judge(reading, PRODUCTION)]
    findings += schema.judge_migrations(None, PRODUCTION)
    assert [finding for finding in findings if finding.severity is not OK] == []
    asked = [REACHABLE, *dict.fromkeys(finding.check for finding in findings)]
    assert sorted(check.name for check in asked) == sorted(check.name for check in CHECKS)


# check, what is read, severity in development and in production, words that must be there
SICK: list[tuple[str, Any, Severity, Severity, str]] = [
    ("postgres-version", on_server(version=13), FAILURE, FAILURE, "PostgreSQL 13"),
    ("postgres-version", on_server(version=19), WARNING, WARNING, "nobody has tested"),
    ("postgres-primary", on_server(standby=True), FAILURE, FAILURE, "a standby"),
    ("postgres-direct", replace(SESSION, direct=False), FAILURE, FAILURE, "a pooler"),
    ("postgres-encoding", on_server(encoding="LATIN1"), FAILURE, FAILURE, "LATIN1"),
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
    ("postgres-fsync", on_server(fsync="off"), WARNING, FAILURE, "fsync = off"),
    ("postgres-full-page-writes", on_server(full_page_writes="off"), WARNING, FAILURE, "= off"),
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
    (
        "postgres-synchronous-commit",
        on_server(synchronous_commit="local"),
        WARNING,
        WARNING,
        "= local",
    ),
    (
        "postgres-synchronous-commit",
        on_server(commit_defaults=[["role x: y=z in database d", "off"]]),
        WARNING,
        WARNING,
        "synchronous_commit = off",
    ),
    ("postgres-autovacuum", on_server(autovacuum="off"), WARNING, WARNING, "autovacuum = off"),
    ("postgres-autovacuum", on_server(track_counts="off"), WARNING, WARNING, "track_counts = off"),
    ("postgres-connections", on_server(connected=88), WARNING, WARNING, "9 of 97"),
    ("postgres-clock", replace(SESSION, ahead_seconds=5.1), WARNING, WARNING, "5.100 s ahead"),
    ("postgres-clock", replace(SESSION, ahead_seconds=-5.1), WARNING, WARNING, "5.100 s behind"),
    (
        "postgres-replication-slots",
        on_server(idle_slots=[["gone", "123"]]),
        WARNING,
        WARNING,
        "123 bytes of WAL (max_slot_wal_keep_size = -1)",
    ),
    (
        "postgres-open-transactions",
        replace(TRANSACTIONS, open=[OpenTransaction(4711, "d", "psql", 61.2)]),
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
        replace(TRANSACTIONS, prepared=[PreparedTransaction("orphan", "d", "app", 3600.0)]),
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
    ("topic-min-insync", with_settings(min__insync__replicas="1"), WARNING, FAILURE, "= 1"),
    (
        "topic-unclean-election",
        with_settings(unclean__leader__election__enable="true"),
        WARNING,
        FAILURE,
        "= true",
    ),
    (
        "topic-max-message-bytes",
        with_settings(max__message__bytes="987135"),
        FAILURE,
        FAILURE,
        "= 987135",
    ),
    (
        "topic-timestamps",
        with_settings(message__timestamp__before__max__ms="14999"),
        WARNING,
        WARNING,
        "before.max.ms = 14999",
    ),
    (
        "topic-timestamps",
        with_settings(message__timestamp__after__max__ms="4999"),
        WARNING,
        WARNING,
        "after.max.ms = 4999",
    ),
    (
        "topic-cleanup",
        with_settings(cleanup__policy="compact,delete"),
        WARNING,
        WARNING,
        "= compact,delete",
    ),
    ("topic-retention", with_settings(retention__ms="86399999"), WARNING, WARNING, "= 86399999"),
    (
        "topic-compression",
        with_settings(compression__type="producer"),
        WARNING,
        WARNING,
        "= producer",
    ),
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
        findings = judge(reading, settings)
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
