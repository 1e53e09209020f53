"""C22: a consumer behind a bad network makes progress, and does nothing twice.

All faults are tested at once, each with a proxy and a group of its own, over the same topic.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

from consumers.runner.runner import Runner
from consumers.settings import Settings
from schemas.envelope import Envelope
from tests.kit.consumers.effects import TABLES, Effects, verdict
from tests.kit.consumers.notes import send
from tests.kit.load.roles import running
from tests.kit.load.stream import event
from tests.kit.proxies.kafka_proxy import KafkaProxy
from tests.kit.proxies.toxics import Bandwidth, Latency, ResetPeer, Slicer, Timeout, Toxic
from tests.kit.verdicts.history import TOPIC
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]

WITHIN_SECONDS = 240.0
HALF_OPEN_SECONDS = 5.0
SESSION_MILLISECONDS = 10_000
TOXICS: dict[str, Toxic] = {
    "late": Latency(0.5),
    "thin": Bandwidth(1_000),
    "sliced": Slicer(1),
    "reset": ResetPeer(3.0),  # each connection, again and again
}
EVENTS = [event(f"key{number % 4}", 1 + number // 4) for number in range(20)]


async def has_done(connection: psycopg.AsyncConnection[Any], name: str) -> bool:
    found = await verdict(connection, name, EVENTS)
    assert not found.doubled, f"{name}: {found}"
    return found.right


async def test_a_slow_thin_sliced_or_breaking_network_only_takes_longer(
    settings: Settings, kafka_url: str, postgres: psycopg.AsyncConnection[Any]
) -> None:
    """C22, I6: for each fault."""
    await postgres.execute(TABLES.encode())
    await send(settings, *EVENTS)
    async with AsyncExitStack() as stack:
        for name, toxic in TOXICS.items():
            proxy = await stack.enter_async_context(KafkaProxy(kafka_url))
            proxy.add(toxic)
            await consuming(stack, settings, proxy, name)
        for name in TOXICS:
            await until(lambda each=name: has_done(postgres, each), WITHIN_SECONDS, 0.5)  # type: ignore[misc] # a default


async def test_a_connection_that_falls_silent_is_survived(
    settings: Settings, kafka_url: str, postgres: psycopg.AsyncConnection[Any]
) -> None:
    """C22: a half-open connection, on which what the broker sent is lost without any sign."""
    await postgres.execute(TABLES.encode())
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(KafkaProxy(kafka_url))
        await consuming(stack, settings, proxy, "half-open")
        await send(settings, *EVENTS[:8])
        await until(lambda: some_done(postgres, EVENTS[:8]), WITHIN_SECONDS)
        with proxy.toxic(Timeout()):
            await send(settings, *EVENTS[8:])
            await asyncio.sleep(HALF_OPEN_SECONDS)
        await until(lambda: has_done(postgres, "half-open"), WITHIN_SECONDS, 0.5)


async def some_done(connection: psycopg.AsyncConnection[Any], events: Sequence[Envelope]) -> bool:
    return (await verdict(connection, "half-open", events)).right


async def consuming(
    stack: AsyncExitStack, settings: Settings, proxy: KafkaProxy, name: str
) -> None:
    """Run a consumer through the proxy until the stack is closed."""
    update = {
        "kafka_url": proxy.address,
        "session_timeout_milliseconds": SESSION_MILLISECONDS,
        "rebalance_timeout_milliseconds": SESSION_MILLISECONDS,
    }
    effects = Effects(settings.libpq_url(), name, TOPIC, batch=10, refuses=False)
    stack.push_async_callback(effects.close)
    runner = Runner(settings.model_copy(update=update), effects)
    await stack.enter_async_context(running(runner))
