"""Errors of aiokafka become ours here, and its clients are started and stopped whole."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import ContextVar
from itertools import chain
from typing import Any
from weakref import WeakSet

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, client, errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaError

from outbox.errors import DependencyDown

STOP_TIMEOUT_SECONDS = 2.0

# Refusals of a message or of its topic that no repetition changes, each with the word that an
# operator reads. Every other error is about the broker's state and may pass.
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
# A broker answers with one of these where offsets are committed from outside a group that has
# members.
GROUP_HAS_MEMBERS = (
    errors.UnknownMemberIdError,
    errors.IllegalGenerationError,
    errors.RebalanceInProgressError,
    errors.CommitFailedError,
)


def read_reason(refusal: KafkaError) -> tuple[str, bool]:
    """Return the reason of a refusal, and whether it holds for the whole topic."""
    kind = type(refusal)
    if kind in OF_THE_TOPIC:
        return OF_THE_TOPIC[kind], True
    return OF_THE_MESSAGE[kind], False


class broker_errors:  # noqa: N801 - used as a function, like contextlib.suppress
    """A context manager that turns errors of aiokafka and of the network into DependencyDown."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, KafkaError | OSError | TimeoutError):
            raise DependencyDown("kafka", error) from error


_opened: ContextVar["WeakSet[AIOKafkaConnection] | None"] = ContextVar("opened", default=None)


async def _open_connection(*arguments: Any, **options: Any) -> AIOKafkaConnection:
    connection = await create_conn(*arguments, **options)
    opened = _opened.get()
    if opened is not None:
        opened.add(connection)
    return connection


client.create_conn = _open_connection


async def start_client(starting: AIOKafkaProducer | AIOKafkaConsumer | AIOKafkaAdminClient) -> None:
    """Start a client; where that is cancelled or fails, close every connection that it has opened.

    aiokafka asks its first question over a connection that it does not keep yet, and forgets that
    connection where it is cancelled then: the broker would see it stay open.
    """
    opened: WeakSet[AIOKafkaConnection] = WeakSet()
    token = _opened.set(opened)
    try:
        await starting.start()
    except BaseException:
        for connection in list(opened):
            connection.close()
        raise
    finally:
        _opened.reset(token)


async def stop_client(stopping: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """Stop a client, and do not hang with it where its broker no longer answers."""
    await wait_until_client_ended(stopping.stop())
    connections = stopping.client if isinstance(stopping, AIOKafkaProducer) else stopping._client
    # `stop` closes them too, unless it was given up before it came so far.
    await wait_until_client_ended(connections.close())


async def abandon_producer(producer: AIOKafkaProducer) -> None:
    """Stop a producer without sending the records that it still holds.

    The producer's own `stop` sends them first, for as long as that takes. If that is given up, it
    leaves a task behind that goes on trying, and would send old records when the broker is back.
    Records that were already on their way may still arrive.
    """
    if producer._sender.sender_task is not None:
        producer._sender.sender_task.cancel()
    held = producer._message_accumulator
    held._pending_batches = _AbandonedBatches(held._pending_batches)
    for batch in [*held._pending_batches, *chain.from_iterable(held._batches.values())]:
        batch.future.cancel()
    await stop_client(producer)


class _AbandonedBatches(set[Any]):
    """A set of given-up batches, in which removing an absent one is no error.

    A batch is removed when its future ends, and once more by a retry that was about to be tried.
    Whichever comes second finds nothing, which in a plain set would be an error.
    """

    def remove(self, batch: Any) -> None:
        self.discard(batch)


async def wait_until_client_ended(ending: Awaitable[None]) -> None:
    """Await the end of a client for at most STOP_TIMEOUT_SECONDS; how it ends does not matter.

    aiokafka mixes up two cancellations. A client that is stopped before its tasks have begun lets
    their CancelledError out, which looks like a cancellation of our task. A client that waits for
    its tasks takes a cancellation of our task for theirs and swallows it, so that a caller with a
    deadline would wait for ever. Here only a cancellation of our own task is raised.
    """
    task = asyncio.current_task()
    requests_before = task.cancelling() if task else 0
    with suppress(TimeoutError, KafkaError, OSError):
        async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
            with suppress(asyncio.CancelledError):
                await ending
    if task is not None and task.cancelling() > requests_before:
        raise asyncio.CancelledError  # somebody wants this very task to end
