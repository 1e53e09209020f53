"""What doctor says of topics and brokers that cannot be asked, are old, or are not there."""

from dataclasses import replace

import pytest

from outbox.doctor import brokers
from outbox.doctor import topics as of_topics
from outbox.kafka import ClusterState, Configuration
from outbox.kafka.cluster import UNSUPPORTED
from outbox.settings import Settings
from tests.kit.operations.doctor_readings import (
    BROKER,
    FAILURE,
    OK,
    PRODUCTION,
    SOUND_SETTINGS,
    TOPIC,
    WARNING,
    judge,
    severity_of,
    with_settings,
    with_topic,
)


def test_a_setting_that_an_older_broker_does_not_have_limits_nothing() -> None:
    """Before Kafka 3.6 there is one limit of timestamps for both directions."""
    values = {k: v for k, v in SOUND_SETTINGS.items() if not k.endswith("r.max.ms")}
    values = {k: v for k, v in values.items() if not k.endswith("before.max.ms")}
    for limit, severity in (("9223372036854775807", OK), ("1000", WARNING)):
        older = values | {"message.timestamp.difference.max.ms": limit}
        found = judge(with_topic(configuration=Configuration(older)), PRODUCTION)
        assert severity_of("topic-timestamps", found) is severity


def test_a_topic_that_stamps_records_itself_refuses_no_time() -> None:
    narrow = with_settings(
        message__timestamp__type="LogAppendTime", message__timestamp__before__max__ms="1"
    )
    assert severity_of("topic-timestamps", judge(narrow, PRODUCTION)) is OK


def test_what_a_stand_in_cannot_be_asked_is_a_warning_for_each_check_and_never_ok() -> None:
    """On a stand-in, however many topics it has."""
    silent = Configuration(refused=UNSUPPORTED)
    topics = [replace(TOPIC, name=f"topic-{n}", configuration=silent) for n in range(3)]
    cluster = ClusterState(False, [replace(BROKER, configuration=silent)], topics)
    findings = judge(cluster, PRODUCTION)
    for check in (brokers.AUTO_CREATE, *(rule.check for rule in of_topics.RULES)):
        (finding,) = [f for f in findings if f.check is check]
        assert (finding.severity, "a stand-in?" in finding.found) == (WARNING, True)


def test_where_no_topic_is_there_none_is_called_right() -> None:
    findings = judge(with_topic(partitions=0), PRODUCTION)
    severities = {f.check.name: f.severity for f in findings if f.check in of_topics.CHECKS}
    assert severities.pop("topic-exists") is FAILURE
    assert set(severities.values()) == {WARNING}
    assert len(severities) == len(of_topics.CHECKS) - 1


def test_parked_keys_that_postgresql_did_not_tell_are_not_called_released() -> None:
    (finding,) = of_topics.judge_parked_keys([TOPIC], None, PRODUCTION)
    assert finding.severity is WARNING


def test_counts_that_postgresql_did_not_tell_are_not_called_right() -> None:
    (finding,) = of_topics.judge_partitions([TOPIC], None, PRODUCTION)
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
