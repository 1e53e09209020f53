"""The mock broker lives in a process of its own and takes and gives messages."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from stack.errors import PartFailed
from stack.process import process_tree
from stack.servers.broker import broker
from stack.servers.mock_broker import BrokerServer
from stack.settings import StackSettings

pytestmark = pytest.mark.anyio


def there_and_back(bootstrap: str) -> bytes | None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    producer.produce("greetings", key=b"k", value=b"hello")
    assert producer.flush(10) == 0
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "not-joined"})
    # Assigned, not subscribed: the mock makes a group wait three seconds for further members.
    partitions = consumer.list_topics("greetings", timeout=10).topics["greetings"].partitions
    consumer.assign([TopicPartition("greetings", each, OFFSET_BEGINNING) for each in partitions])
    try:
        message = consumer.poll(15)
        assert message is not None
        return message.value()
    finally:
        consumer.close()


async def test_a_message_comes_back_and_the_process_is_gone_afterwards(
    folder: Path, settings: StackSettings
) -> None:
    async with broker(folder, settings) as part:
        assert await asyncio.to_thread(there_and_back, part.url) == b"hello"
        assert part.stand_in
        assert part.pid is not None
    assert process_tree.parent_of(part.pid) is None


async def test_it_may_be_killed_and_started_again(folder: Path, settings: StackSettings) -> None:
    async with BrokerServer(folder, settings) as server:
        first = server.pid
        await server.kill()
        assert server.pid is None
        await server.start()
        assert await asyncio.to_thread(there_and_back, server.url) == b"hello"
        assert server.pid != first


async def test_a_url_in_the_environment_is_used_as_it_is(
    folder: Path, settings: StackSettings
) -> None:
    async with broker(folder, settings) as ours:
        there = settings.model_copy(update={"kafka_url": ours.url})
        async with broker(folder, there) as part:
            assert (part.url, part.pid, part.stand_in) == (ours.url, None, False)


async def test_a_url_that_does_not_answer_is_named(folder: Path, settings: StackSettings) -> None:
    here = settings.model_copy(update={"kafka_url": "127.0.0.1:1", "ready_timeout_seconds": 0.2})
    with pytest.raises(PartFailed, match="KAFKA_URL"):
        async with broker(folder, here):
            pass


@pytest.mark.parametrize("end", ["input", "SIGTERM", "SIGINT"])
def test_its_command_ends_with_its_input_or_a_signal(end: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "stack", "broker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["bootstrap"].startswith("127.0.0.1:")
        if end == "input":
            process.stdin.close()
        else:
            process.send_signal(signal.Signals[end])
        assert process.wait(10) == 0
