"""Kafka: the brokers at KAFKA_URL, or Apache Kafka itself, or librdkafka's mock broker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from stack.part import Part
from stack.process.probe import Probe, answer_within, host_and_port, require_listener
from stack.servers.kafka import PORT, KafkaServer, has_means, in_container
from stack.servers.mock_broker import BrokerServer
from stack.servers.provider import Providers
from stack.settings import StackSettings

PROVIDERS = Providers(
    in_container=in_container,
    has_means=has_means,
    from_jars=KafkaServer,
    stand_in="mock",
    as_stand_in=BrokerServer,
)


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
    async with PROVIDERS.start(await choose_provider(settings), folder, settings) as part:
        yield part


async def choose_provider(settings: StackSettings) -> str:
    """Return `docker`, `maven` or `mock`: what STACK_KAFKA says (see `Providers.choose`)."""
    return await PROVIDERS.choose(settings.kafka_provider, settings)


async def remote(url: str, settings: StackSettings) -> Part:
    """Return the brokers at `host:port[,host:port ...]`, once the first accepts a connection."""
    host, port = host_and_port(url.split(",")[0].strip(), PORT)
    probe = Probe(lambda: require_listener(host, port))
    await answer_within(probe, settings.ready_timeout_seconds, "Kafka (environment KAFKA_URL)")
    return Part(name="kafka", provider="environment KAFKA_URL", url=url)
