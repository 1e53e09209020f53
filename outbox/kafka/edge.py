"""The edge of aiokafka: its errors become ours, and its clients are stopped with a deadline."""

import asyncio
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from outbox.errors import DependencyDown

STOP_TIMEOUT_SECONDS = 2.0


class broker_errors:  # noqa: N801 - used as a function, like contextlib.suppress
    """Turn what aiokafka and the network raise into DependencyDown."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, KafkaError | OSError | TimeoutError):
            raise DependencyDown("kafka", error) from error


async def stop(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """Stop a client, but do not hang with it when its broker is deaf."""
    with suppress(TimeoutError, KafkaError, OSError):
        async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
            await client.stop()
