"""Cluster: what brokers say of themselves and of topics. Nothing is made or changed by asking."""

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
    """The settings in force, as Kafka writes them; or, in `refused`, why they were not told."""

    values: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is now. `partitions` is 0 where there is none, or none that we may see.

    `replicas` and `in_sync` are those of the partition that has the fewest.
    """

    name: str
    partitions: int
    replicas: int
    in_sync: int
    leaderless: int
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class BrokerState:
    """A broker, at the address that it gives to clients."""

    number: int
    host: str
    port: int
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class ClusterState:
    """`supported` is whether these brokers tell their settings at all."""

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
    """The brokers and these topics, each with those settings that it knows.

    DependencyDown where nobody answers in time. All topics are asked for, since a broker that makes
    topics by itself would make each one that is asked for by name.
    """
    async with admin_client(bootstrap, timeout_seconds) as admin:
        cluster = await admin.describe_cluster()
        there = {topic["topic"]: topic for topic in await admin.describe_topics()}
        names = sorted(topics)
        asked = [ConfigResource(ConfigResourceType.TOPIC, name, _only(settings)) for name in names]
        told = await asyncio.gather(*(_configuration(admin, resource) for resource in asked))
        brokers = [await _broker(admin, each, broker_settings) for each in cluster["brokers"]]
        states = [_state(*each) for each in zip(names, map(there.get, names), told, strict=True)]
    silent = {each.configuration.refused for each in brokers} == {UNSUPPORTED}
    return ClusterState(not silent, brokers, states)


async def _broker(
    admin: AIOKafkaAdminClient, broker: Mapping[str, Any], settings: Sequence[str]
) -> BrokerState:
    number = broker["node_id"]
    resource = ConfigResource(ConfigResourceType.BROKER, str(number), _only(settings))
    configuration = await _configuration(admin, resource)
    return BrokerState(number, broker["host"], broker["port"], configuration)


async def _configuration(admin: AIOKafkaAdminClient, resource: ConfigResource) -> Configuration:
    try:
        (response,) = await admin.describe_configs([resource])
    except IncompatibleBrokerVersion:
        return Configuration(refused=UNSUPPORTED)
    ((code, message, _, _, entries),) = response.resources
    if code:
        return Configuration(refused=f"{_name(for_code(code))} {message or ''}".strip())
    return Configuration({name: value for name, value, *_ in entries if value is not None})


def _name(error: type[KafkaError]) -> str:
    return error.__name__


def _only(settings: Sequence[str]) -> dict[str, None]:
    """As the client wants it: the names as keys."""
    return dict.fromkeys(settings)


def _state(name: str, topic: Mapping[str, Any] | None, configuration: Configuration) -> TopicState:
    partitions = topic["partitions"] if topic else []
    return TopicState(
        name,
        len(partitions),
        min((len(each["replicas"]) for each in partitions), default=0),
        min((len(each["isr"]) for each in partitions), default=0),
        sum(each["leader"] < 0 for each in partitions),
        configuration,
    )
