"""C16, C17: a partition with unreadable bytes stands still, and nothing of it is skipped."""

from collections.abc import AsyncIterator

import pytest

from consumers.runner import membership
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.kafka import partition_of, subscriber
from tests.kit.captured import captured
from tests.kit.consumers.notes import Notes, behind, committed, ids, send
from tests.kit.load.roles import running
from tests.kit.load.stream import event
from tests.kit.proxies.broken_bytes import FlipBit, Foreign, Larger, Spoil
from tests.kit.proxies.kafka_proxy import KafkaProxy
from tests.kit.verdicts.history import TOPIC
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 60.0
PARTITIONS = 4
BROKEN = "broken"


@pytest.fixture
async def proxied(settings: Settings, proxy: KafkaProxy) -> AsyncIterator[Settings]:
    """Settings of a consumer behind the proxy; a partition that stood still is soon tried again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subscriber, "UNREADABLE_SECONDS", 1.0)
        yield settings.model_copy(update={"kafka_url": proxy.address})


def other_key(partition_of_broken: int) -> str:
    """A key of another partition."""
    keys = (f"other{number}" for number in range(100))
    return next(k for k in keys if partition_of(k.encode(), PARTITIONS) != partition_of_broken)


OTHER = other_key(partition_of(BROKEN.encode(), PARTITIONS))


async def spoiled(rule: Spoil, times: int) -> bool:
    return rule.times_spoiled >= times


@pytest.mark.parametrize("spoil", [FlipBit, Foreign, Larger])
async def test_a_batch_that_cannot_be_read_stops_its_partition_there_until_it_can(
    spoil: type[Spoil], proxied: Settings, settings: Settings, proxy: KafkaProxy
) -> None:
    """C16 (Larger), C17: records before it and in other partitions flow; later all records come,
    once and in order."""
    rule = spoil(marker=f"{BROKEN}@3".encode())
    proxy.add_rule(rule)
    await send(settings, *(event(BROKEN, version) for version in range(1, 6)), event(OTHER, 1))
    notes = Notes()
    with captured(membership) as logs:
        async with running(Runner(proxied, notes)):
            await until(lambda: spoiled(rule, 4), WITHIN_SECONDS)
            await send(settings, event(OTHER, 2))
            flows = (f"{BROKEN}@2", f"{OTHER}@1", f"{OTHER}@2")
            await until(lambda: notes.has(*flows), WITHIN_SECONDS)
            assert f"{BROKEN}@4" not in notes.applied
            assert await behind(settings) >= 3
            proxy.end_rules()
            await until(lambda: notes.has(f"{BROKEN}@5"), WITHIN_SECONDS)
            await until(lambda: committed(settings), WITHIN_SECONDS)
    assert notes.of_key(BROKEN) == [f"{BROKEN}@{version}" for version in range(1, 6)]
    assert notes.of_key(OTHER) == [f"{OTHER}@1", f"{OTHER}@2"]
    said = [each["error"] for each in logs if each["event"] == "partition stands still"]
    assert said, "it must be loud"
    assert f"{TOPIC}/{partition_of(BROKEN.encode(), PARTITIONS)} is unreadable" in said[0]
    assert "offset 2" in said[0]


async def test_what_a_fetch_had_before_the_broken_batch_is_neither_lost_nor_doubled(
    proxied: Settings, settings: Settings, proxy: KafkaProxy
) -> None:
    """C17, C24: aiokafka loses the records it has taken from a fetch that breaks later on."""
    rule = FlipBit(marker=f"{BROKEN}@9".encode(), most=2)
    proxy.add_rule(rule)
    sent = [event(key, version) for version in range(1, 12) for key in (BROKEN, OTHER)]
    await send(settings, *sent)
    notes = Notes()
    async with running(Runner(proxied, notes)):
        await until(lambda: notes.has(*ids(sent)), WITHIN_SECONDS)
    assert rule.happened.is_set()
    assert notes.of_key(BROKEN) == [f"{BROKEN}@{version}" for version in range(1, 12)]
    assert notes.of_key(OTHER) == [f"{OTHER}@{version}" for version in range(1, 12)]
