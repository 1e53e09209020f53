"""C23: how much a consumer holds in memory, whatever the broker has for it.

It runs on real Kafka only, because a topic of the mock broker has only four partitions.
"""

import asyncio
import json
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from consumers.settings import Settings
from outbox.kafka import Publisher, Record
from schemas.wire import encode
from tests.kit.load.role import Role
from tests.kit.load.stream import event
from tests.kit.verdicts.history import TOPIC

# mypy: disable-error-code="attr-defined"
# (confluent_kafka re-exports the names of its admin client without saying so)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("real_kafka"),
]

MIB = 1024 * 1024
PARTITIONS = 200
KEYS = 5_000
PADDING = b"x" * 50_000
SENT_MIB = KEYS * len(PADDING) // MIB
STANDS_STILL = json.dumps({"slow": 3_600, "refuses": False})
HELD_MIB = 96  # one and a half of what `in_flight_bytes` is by default
MORE_MIB = 64  # one more receive, what the client has fetched, and what malloc keeps: 128 in all
SETTLED_LOOKS = 8  # of a second each, without having grown
SETTLES_SECONDS = 240


async def test_full_fetches_of_two_hundred_partitions_are_held_within_the_bound(
    settings: Settings, tell: Callable[[str], None]
) -> None:
    """C23: no message is ever finished, and far more waits in the broker than may be held."""
    growth = await growth_mib(settings)
    tell(f"grew by {growth:.0f} MiB beside {SENT_MIB}")
    assert growth < HELD_MIB + MORE_MIB


async def test_what_is_held_without_a_bound_is_caught_growing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERCOMMIT_IN_FLIGHT_BYTES", str(2_047 * MIB))
    assert await growth_mib(settings) > HELD_MIB + MORE_MIB


async def growth_mib(settings: Settings) -> float:
    """The growth in MiB of a consumer that is offered everything and applies nothing."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_url})
    for made in admin.create_partitions([NewPartitions(TOPIC, PARTITIONS)]).values():
        made.result(20)
    async with Role("reactor", settings, "full", STANDS_STILL, "6000") as role:
        await role.ready()
        before = role.rss_bytes()
        await send_all(settings)
        most = await settled_bytes(role)
        await role.kill()
        return (most - before) / MIB


async def settled_bytes(role: Role) -> int:
    """The most that it held until it no longer grew, however fast it got there."""
    most = looks = 0
    async with asyncio.timeout(SETTLES_SECONDS):
        while looks < SETTLED_LOOKS:
            await asyncio.sleep(1)
            now = role.rss_bytes()
            looks = 0 if now > most + MIB else looks + 1
            most = max(most, now)
    return most


async def send_all(settings: Settings) -> None:
    async with Publisher(settings.kafka_url, 30.0) as publisher:
        for first in range(0, KEYS, 100):
            await publisher.send(record(number) for number in range(first, first + 100))


def record(number: int) -> Record:
    key, value, headers = encode(event(f"key{number}", 1))
    return Record(number, TOPIC, key, value, [*headers, ("padding", PADDING)])
