"""Checks of the brokers: whether they answer, who can listen, and whether they create topics."""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from outbox.doctor.diagnosis import (
    Check,
    CheckResult,
    SeverityPolicy,
    judge_each,
    report_unanswered,
)
from outbox.kafka import BrokerState, ClusterState
from outbox.settings import Settings

REACHABLE = Check(
    "kafka-reachable",
    SeverityPolicy.FATAL,
    "a broker answers within AFTERCOMMIT_DOCTOR_TIMEOUT_SECONDS: without, messages wait",
    "set KAFKA_URL to the bootstrap servers, and look whether they are up",
)
PLAINTEXT = Check(
    "kafka-plaintext",
    SeverityPolicy.GRAVE,
    "brokers on loopback addresses only: this version speaks to Kafka in plaintext and has no"
    " settings for TLS yet, so that whoever is on the way can read and write messages",
    "a TLS proxy on this machine for each broker, advertised at a loopback address",
)
AUTO_CREATE = Check(
    "kafka-auto-create-topics",
    SeverityPolicy.GRAVE,
    "auto.create.topics.enable = false: a topic that makes itself has whatever partitions and"
    " settings are the default, and hides a wrong name",
    "auto.create.topics.enable=false in each broker's properties, then restart it",
)
CHECKS = (REACHABLE, PLAINTEXT, AUTO_CREATE)

AUTO_CREATES = "auto.create.topics.enable"
SETTINGS = (AUTO_CREATES,)


def judge_reachable(cluster: ClusterState) -> Iterator[CheckResult]:
    yield REACHABLE.ok(f"{len(cluster.brokers)} brokers")


def judge_plaintext(brokers: Iterable[BrokerState], settings: Settings) -> Iterator[CheckResult]:
    """Judge the addresses in KAFKA_URL, and those that the brokers send their clients to."""
    named = [address.strip() for address in settings.kafka_url.split(",")]
    hosts = {host_of(address): address for address in named}
    hosts |= {broker.host: f"{broker.host}:{broker.port}" for broker in brokers}
    found = [
        (address, "in plaintext, over a network")
        for host, address in sorted(hosts.items())
        if not is_loopback(host)
    ]
    yield from judge_each(PLAINTEXT, settings, found, "in plaintext, on this machine only")


def judge_auto_create(cluster: ClusterState, settings: Settings) -> Iterator[CheckResult]:
    for broker in cluster.brokers:
        subject, configuration = f"broker {broker.number}", broker.configuration
        value = configuration.values.get(AUTO_CREATES)
        if value is None:
            why = configuration.refused or f"{AUTO_CREATES} is not among its settings"
            yield from report_unanswered([AUTO_CREATE], why, subject)
        else:
            found = f"{AUTO_CREATES} = {value}"
            yield AUTO_CREATE.judge(settings, found, fine=value == "false", subject=subject)


def host_of(address: str) -> str:
    """Return the host of `host:port`, of `[::1]:port`, or of a host alone."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Return whether it is certainly this machine; of names, only `localhost` is."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
