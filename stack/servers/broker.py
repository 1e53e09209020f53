"""Kafka: the brokers at KAFKA_URL, or Apache Kafka itself, or librdkafka's mock broker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from stack.part import Part
from stack.process.probe import Probe, answer_within, host_and_port, require_listener
from stack.servers.container import engine_answers
from stack.servers.kafka import PORT, KafkaServer, has_means, in_container
from stack.servers.mock_broker import BrokerServer
from stack.settings import StackSettings


@asynccontextmanager
async def broker(folder: Path, settings: StackSettings | None = None) -> AsyncIterator[Part]:
    """Open a Kafka broker for the length of the block; the part's url is its bootstrap servers.

    KAFKA_URL is proved by a TCP connection to its first server only: how to log in there is the
    clients' own business. Without KAFKA_URL the setting STACK_KAFKA chooses (see
    `choose_provider`). PartMissing is raised where Apache Kafka was chosen and Docker, or Java or
    Maven, is missing: the mock broker never replaces it.
    """
    settings = settings or StackSettings()
    if settings.kafka_url:
        yield await remote(settings.kafka_url, settings)
        return
    async with own_part(await choose_provider(settings), folder, settings) as part:
        yield part


async def choose_provider(settings: StackSettings) -> str:
    """Return `docker`, `maven` or `mock`: what STACK_KAFKA says.

    If it says `best`: a container where a Docker engine answers, else Apache Kafka's own jars
    where Java and Maven are, else the mock. A provider that is there and then fails is not
    replaced by another one.
    """
    if settings.kafka_provider != "best":
        return settings.kafka_provider
    if await engine_answers():
        return "docker"
    return "maven" if await has_means(settings) else "mock"


@asynccontextmanager
async def own_part(provider: str, folder: Path, settings: StackSettings) -> AsyncIterator[Part]:
    """Start a broker of this provider, and stop it at the end of the block."""
    if provider == "docker":
        async with in_container(settings) as part:
            yield part
        return
    kind = KafkaServer if provider == "maven" else BrokerServer
    async with kind(folder, settings) as server:
        yield server.part


async def remote(url: str, settings: StackSettings) -> Part:
    """Return the brokers at `host:port[,host:port ...]`, once the first accepts a connection."""
    host, port = host_and_port(url.split(",")[0].strip(), PORT)
    probe = Probe(lambda: require_listener(host, port))
    await answer_within(probe, settings.ready_timeout_seconds, "Kafka (environment KAFKA_URL)")
    return Part(name="kafka", provider="environment KAFKA_URL", url=url)
