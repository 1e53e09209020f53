"""Upstream: a program that sends commands and reads answers. It speaks Kafka only.

To the services it is a foreign program.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import islice
from uuid import uuid4

from outbox.kafka import Publisher, Record, Subscriber
from schemas.envelope import Command, Envelope
from schemas.wire import decode, encode

COMMANDS_PER_SEND = 200
REPLIES = "catalog.command.events"


def envelope_of(command: Command) -> Envelope:
    """Return the command with an id of its own, ready to send."""
    command_id = str(uuid4())
    return Envelope(
        id=command_id,
        source="/upstream",
        type=command.type,
        key=command.key(),
        payload=command.payload(),
        time=datetime.now(UTC),
        correlation_id=command_id,
    )


def record_of(envelope: Envelope, topic: str) -> Record:
    key, value, headers = encode(envelope)
    return Record(0, topic, key, value, headers)


async def send(
    publisher: Publisher, commands: Iterable[Command], sent: Callable[[int], None]
) -> None:
    """Send commands in order per key; `sent` is called with each number of acknowledged ones."""
    left = iter(commands)
    while some := list(islice(left, COMMANDS_PER_SEND)):
        await publisher.send(record_of(envelope_of(command), command.topic) for command in some)
        sent(len(some))


async def ask(publisher: Publisher, kafka_url: str, command: Command, seconds: float) -> Envelope:
    """Send one command and return its answer, found by the correlation id; or TimeoutError."""
    question = envelope_of(command)
    async with Subscriber(
        kafka_url, f"upstream-{question.id}", [REPLIES], 6_000, 1 << 20
    ) as replies:
        await publisher.send([record_of(question, command.topic)])
        async with asyncio.timeout(seconds):
            while True:
                fetched = await replies.receive(500, 100)
                for record in (record for records in fetched.values() for record in records):
                    answer = decode(record.key, record.value, record.headers)
                    if answer.correlation_id == question.correlation_id:
                        return answer
