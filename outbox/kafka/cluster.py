"""Cluster: what brokers report about themselves and about topics. Asking changes nothing."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, for_code

from outbox.kafka.admin import admin_client

UNSUPPORTED = "by this broker, which has no such request (a stand-in?)"


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings in force, as Kafka writes them; or, in `refused`, why it did not report them."""

    values: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is now.

    `partitions` is 0 where there is no such topic, or none that we may see. `replicas` and
    `in_sync` are those of the partition that has the fewest. `leaderless` counts the partitions
    that have no leader.
    """

    name: str
    partitions: int
    replicas: int
    in_sync: int
    leaderless: int
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class BrokerState:
    """A broker, with the address that it gives to clients."""

    number: int
    host: str
    port: int
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The brokers, and the topics that were asked for.

    `supported` is False where these brokers do not report their settings at all.
    """

    supported: bool
    brokers: Sequence[BrokerState]
    topics: Sequence[TopicState]


async def describe_cluster(
    bootstrap: str,
    topics: Iterable[str],
    settings: Sequence[str],
    broker_settings: Sequence[str],
    timeout_seconds: float,
) -> ClusterState:
    """Return the brokers and these topics, each with those of the settings that it knows.

    DependencyDown where nobody answers in time. All topics of the cluster are asked for, because a
    broker that creates topics by itself would create each one that is asked for by name.
    """
    async with admin_client(bootstrap, timeout_seconds) as admin:
        cluster = await admin.describe_cluster()
        there = {topic["topic"]: topic for topic in await admin.describe_topics()}
        names = sorted(topics)
        asked = [
            ConfigResource(ConfigResourceType.TOPIC, name, _build_keys(settings)) for name in names
        ]
        known = await asyncio.gather(*(_read_configuration(admin, each) for each in asked))
        brokers = [await _read_broker(admin, each, broker_settings) for each in cluster["brokers"]]
        states = [
            _build_topic_state(*each)
            for each in zip(names, map(there.get, names), known, strict=True)
        ]
    silent = {each.configuration.refused for each in brokers} == {UNSUPPORTED}
    return ClusterState(not silent, brokers, states)


async def _read_broker(
    admin: AIOKafkaAdminClient, broker: Mapping[str, Any], settings: Sequence[str]
) -> BrokerState:
    number = broker["node_id"]
    resource = ConfigResource(ConfigResourceType.BROKER, str(number), _build_keys(settings))
    configuration = await _read_configuration(admin, resource)
    return BrokerState(number, broker["host"], broker["port"], configuration)


async def _read_configuration(
    admin: AIOKafkaAdminClient, resource: ConfigResource
) -> Configuration:
    try:
        (response,) = await admin.describe_configs([resource])
    except IncompatibleBrokerVersion:
        return Configuration(refused=UNSUPPORTED)
    ((code, message, _, _, entries),) = response.resources
    if code:
        error: type[KafkaError] = for_code(code)
        return Configuration(refused=f"{error.__name__} {message or ''}".strip())
    return Configuration({name: value for name, value, *_ in entries if value is not None})


def _build_keys(settings: Sequence[str]) -> dict[str, None]:
    """Return the names as the keys of a dict, which is the form that the client takes."""
    return dict.fromkeys(settings)


def _build_topic_state(
    name: str, topic: Mapping[str, Any] | None, configuration: Configuration
) -> TopicState:
    partitions = topic["partitions"] if topic else []
    return TopicState(
        name,
        len(partitions),
        min((len(each["replicas"]) for each in partitions), default=0),
        min((len(each["isr"]) for each in partitions), default=0),
        sum(each["leader"] < 0 for each in partitions),
        configuration,
    )
