"""The edge of aiokafka: its errors become ours, and its clients are stopped with a deadline."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from itertools import chain
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, errors
from aiokafka.errors import KafkaError

from outbox.errors import DependencyDown

STOP_TIMEOUT_SECONDS = 2.0

# What a broker says of a message, or of its topic, that no repetition changes; the word is what a
# person reads. Everything else is the broker's state, and may pass.
TOO_LARGE = "too-large"
OF_THE_MESSAGE: dict[type[KafkaError], str] = {
    errors.MessageSizeTooLargeError: TOO_LARGE,
    errors.RecordListTooLargeError: TOO_LARGE,
    errors.InvalidTimestampError: "timestamp-refused",
    errors.PolicyViolationError: "policy-violated",
}
OF_THE_TOPIC: dict[type[KafkaError], str] = {
    errors.InvalidTopicError: "topic-name-refused",
    errors.TopicAuthorizationFailedError: "topic-denied",
}
TOPIC_MISSING = "topic-missing"
TOPIC_SHRUNK = "topic-has-fewer-partitions"
REFUSALS = (*OF_THE_MESSAGE, *OF_THE_TOPIC)


def read_reason(refusal: KafkaError) -> tuple[str, bool]:
    """Why Kafka refuses, and whether that holds for the whole topic."""
    kind = type(refusal)
    if kind in OF_THE_TOPIC:
        return OF_THE_TOPIC[kind], True
    return OF_THE_MESSAGE[kind], False


class broker_errors:  # noqa: N801 - used as a function, like contextlib.suppress
    """Turn what aiokafka and the network raise into DependencyDown."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, KafkaError | OSError | TimeoutError):
            raise DependencyDown("kafka", error) from error


async def stop_client(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """Stop a client, but do not hang with it when its broker is deaf."""
    await wait_until_client_ended(client.stop())
    connections = client.client if isinstance(client, AIOKafkaProducer) else client._client
    await wait_until_client_ended(
        connections.close()
    )  # again, where `stop` was given up before it came so far


async def abandon_producer(producer: AIOKafkaProducer) -> None:
    """Stop a producer without sending what it still holds.

    Its own `stop` first sends that, for as long as it takes; given up, it leaves a task behind that
    goes on trying, and would bring old records when the broker is back. What was on its way already
    may still arrive.
    """
    if producer._sender.sender_task is not None:
        producer._sender.sender_task.cancel()
    held = producer._message_accumulator
    held._pending_batches = _Forgotten(held._pending_batches)
    for batch in [*held._pending_batches, *chain.from_iterable(held._batches.values())]:
        batch.future.cancel()
    await stop_client(producer)


class _Forgotten(set[Any]):
    """Batches that were given up.

    Each removes itself when its future ends, and so does a repetition that was about to be tried:
    whichever comes second would find nothing, which in a plain set is an error.
    """

    def remove(self, batch: Any) -> None:
        self.discard(batch)


async def wait_until_client_ended(ending: Awaitable[None]) -> None:
    """Await the end of a client, for STOP_TIMEOUT_SECONDS at most; how it ends does not matter.

    A client that is stopped before its tasks have begun lets their cancellation out, which would be
    taken for a cancellation of ours; and one that waits for its tasks takes ours for theirs, and
    keeps it, so that whoever has set a deadline would wait for ever.
    """
    task = asyncio.current_task()
    asked_before = task.cancelling() if task else 0
    with suppress(TimeoutError, KafkaError, OSError):
        async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
            with suppress(asyncio.CancelledError):
                await ending
    if task is not None and task.cancelling() > asked_before:
        raise asyncio.CancelledError  # it is this very task that somebody wants to end
