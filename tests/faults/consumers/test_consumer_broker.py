"""C21: the broker of running consumers dies or stands still; each test has its own broker."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.kafka import create_topics
from schemas.envelope import Envelope
from stack.servers.kafka import KafkaServer, has_means
from stack.settings import StackSettings
from tests.kit.consumers.effects import Effects
from tests.kit.consumers.groups import WITHIN_SECONDS, Connection, committed, send, settled
from tests.kit.load.length import seconds
from tests.kit.load.roles import running
from tests.kit.load.stream import event
from tests.kit.topics import PARTITIONS
from tests.kit.verdicts.history import TOPIC
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

KEYS = 20
STILL_SECONDS = seconds(12, 30)  # three sessions
NAME = "steadfast"

Interrupt = Callable[[KafkaServer], Awaitable[None]]


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[KafkaServer]:
    settings = StackSettings(kafka_url=None)
    if not await has_means(settings):
        pytest.skip("no Java or no Maven: the mock broker keeps nothing when it is killed")
    async with KafkaServer(tmp_path, settings) as server:
        await create_topics(server.url, [TOPIC], PARTITIONS)
        yield server


@asynccontextmanager
async def consuming(settings: Settings) -> AsyncIterator[Effects]:
    """Consume slowly, so that something is in flight whenever the broker goes away."""
    effects = Effects(settings.libpq_url(), NAME, TOPIC, slow=0.02, refuses=False)
    async with running(Runner(settings, effects)):
        yield effects
    await effects.close()


async def killed(broker: KafkaServer) -> None:
    await broker.kill()
    await asyncio.sleep(2)
    await broker.start()


async def stopped(broker: KafkaServer) -> None:
    """Stop the broker's process: its connections stay open, and nothing answers on them."""
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    await asyncio.sleep(STILL_SECONDS)
    os.kill(broker.pid, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize(
    "interrupt", [killed, pytest.param(stopped, marks=pytest.mark.faults_only)]
)
async def test_a_consumer_outlives_its_broker_and_does_each_message_once(
    member: Settings, tables: Connection, broker: KafkaServer, interrupt: Interrupt
) -> None:
    """C21: twice in a row, in the middle of its messages; it makes no dead letter."""
    settings = member.model_copy(update={"kafka_url": broker.url})
    sent: list[Envelope] = []
    async with consuming(settings):
        for version in range(1, 7, 2):
            sent += await sent_to(settings, version)
            await until(partial(begun, tables, len(sent)), WITHIN_SECONDS, 0.01)
            if version < 5:
                await interrupt(broker)
            sent += await sent_to(settings, version + 1)
            await settled(tables, NAME, sent)
        await until(lambda: committed(settings, NAME), WITHIN_SECONDS)
    rows = await tables.execute("SELECT count(*) FROM outbox.dead_letters")
    assert await rows.fetchone() == (0,)


async def sent_to(settings: Settings, version: int) -> list[Envelope]:
    events = [event(f"key{number}", version) for number in range(KEYS)]
    await send(settings, *events)
    return events


async def begun(tables: Connection, sent: int) -> bool:
    """Whether some of the last KEYS messages are done."""
    rows = await tables.execute("SELECT count(*) FROM applied")
    (done,) = await rows.fetchone() or (0,)
    return sent - KEYS < done
