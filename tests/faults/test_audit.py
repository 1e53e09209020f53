"""The audit beside a broker that is away or deaf, or has dropped what it had; and at some length."""

import asyncio
import json
import os
import subprocess
import sys
import time

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.settings import Settings
from outbox.audit import Audit, audit
from outbox.errors import DependencyDown
from outbox.findings import Kind
from outbox.relay import Relay, connect
from outbox.scene import Range
from outbox.status import read_status
from tests.conftest import Servers
from tests.faults.kafka_proxy import KafkaProxy
from tests.faults.role import environment
from tests.faults.toxics import Timeout
from tests.integration.planted_records import TOPIC, passed, read, write
from tests.integration.roles import running
from tests.waiting import until

# mypy: disable-error-code="attr-defined"
# (confluent_kafka re-exports the names of its admin client without saying so)

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection
WITHIN_SECONDS = 120.0
MANY = """
    SELECT count(outbox.publish('test.note', 'k' || number %% 1000, 'test.noted.v1',
                                jsonb_build_object('text', repeat('x', %s))))
    FROM generate_series(1, %s) AS number
"""


async def audited(settings: Settings, asked: Range | None = None) -> Audit:
    async with await connect(settings) as connection:
        return await audit(connection, settings, asked)


async def published(settings: Settings, postgres: Connection) -> None:
    async def nothing_pending() -> bool:
        return (await read_status(postgres)).pending == 0

    async with running(Relay(settings)):
        await until(nothing_pending, WITHIN_SECONDS, 0.05)


async def test_an_audit_gives_up_a_broker_that_is_away_or_deaf(
    settings: Settings, proxy: KafkaProxy, postgres: Connection
) -> None:
    """Refused at once; silent from the start, or while records are read, within its time."""
    await write(postgres, "k")
    await published(settings, postgres)
    settings = settings.model_copy(update={"kafka_url": proxy.address, "read_timeout_seconds": 1.0})
    assert (await audited(settings)).right
    with proxy.toxic(Timeout()):
        since = time.monotonic()
        with pytest.raises(DependencyDown, match="kafka"):
            await audited(settings)
        assert time.monotonic() - since < 10
    await proxy.down()
    with pytest.raises(DependencyDown, match="kafka"):
        await audited(settings)


async def test_an_audit_gives_up_a_broker_that_goes_deaf_while_records_are_read(
    settings: Settings, proxy: KafkaProxy, postgres: Connection
) -> None:
    await postgres.execute(MANY, [2_000, 5_000])
    await published(settings, postgres)
    settings = settings.model_copy(update={"kafka_url": proxy.address, "read_timeout_seconds": 1.0})
    async with await connect(settings) as connection:
        with pytest.raises(DependencyDown, match="no record for 1 s"):
            await audit(connection, settings, tell=lambda _read, _of: proxy.add(Timeout()))


@pytest.fixture
def admin(servers: Servers, kafka_url: str) -> AdminClient:
    if not servers.real_kafka:
        pytest.skip("the mock broker drops nothing when it is asked to")
    return AdminClient({"bootstrap.servers": kafka_url})


async def test_what_the_topic_has_dropped_is_expired_and_not_lost(
    settings: Settings, postgres: Connection, admin: AdminClient
) -> None:
    """The partition's beginning may lie in the middle of a delivery; what is lost there, is."""
    await postgres.execute(MANY, [10, 400])
    await published(settings.model_copy(update={"page_messages": 50}), postgres)
    before = [TopicPartition(TOPIC, number, 33) for number in range(4)]
    for dropped in admin.delete_records(before).values():
        await asyncio.to_thread(dropped.result, 20)
    found = await audited(settings)
    assert found.findings == []
    counts = found.counts
    assert (counts.expired, counts.in_topics, counts.committed) == (4 * 33, 400 - 4 * 33, 400)
    lost = await write(postgres, "k1")
    await passed(postgres)
    found = await audited(settings)
    assert [(each.kind, each.position) for each in found.findings] == [(Kind.LOST, lost.position)]
    assert found.counts.expired == 4 * 33


async def test_a_topic_that_was_deleted_has_lost_its_messages(
    settings: Settings, postgres: Connection, admin: AdminClient
) -> None:
    """R13: and it is not made again by looking."""
    first = await write(postgres, "k")
    await published(settings, postgres)
    for deleted in admin.delete_topics([TOPIC]).values():
        await asyncio.to_thread(deleted.result, 20)
    found = await audited(settings)
    assert [each.kind for each in found.findings] == [Kind.LOST, Kind.MISRECORDED]
    assert (await read(postgres, found.findings[0].position or 0)) == first
    assert TOPIC not in admin.list_topics(timeout=20).topics


GROWTH_MIB = 16.0


def peak_mib(settings: Settings, *range_: str) -> float:
    """The most memory that the command held; it must find nothing."""
    command = [sys.executable, "-m", "outbox", "audit", "--json", *range_]
    process = subprocess.Popen(
        command, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    with process.stdout as stdout:
        told = json.loads(stdout.read())
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert (process.returncode, told["right"]) == (0, True)
    return used.ru_maxrss / 1024


@pytest.mark.slow
async def test_memory_does_not_grow_with_what_is_audited(
    settings: Settings, postgres: Connection
) -> None:
    """Twenty times as many messages, and hardly more memory; their records are some 50 MB."""
    await postgres.execute(MANY, [10, 5_000])
    await published(settings, postgres)
    few = peak_mib(settings)
    for _ in range(19):
        await postgres.execute(MANY, [10, 5_000])
    await published(settings, postgres)
    many = peak_mib(settings)
    print(f"{few:.1f} MiB for 5,000 messages, {many:.1f} MiB for 100,000")
    assert many - few < GROWTH_MIB
    found = await audited(settings)
    assert found.counts.committed == found.counts.in_topics + found.counts.expired == 100_000
