"""The audit when its broker is away, says nothing, or has dropped records; and its memory."""

import asyncio
import json
import subprocess
import sys

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.settings import Settings
from outbox.audit.audit import Audit, audit
from outbox.audit.findings import FindingKind
from outbox.audit.scope import Range
from outbox.errors import DependencyDown
from outbox.postgres.connection import connect
from tests.conftest import Servers
from tests.kit.load.relaying import relay_all
from tests.kit.load.role import environment
from tests.kit.operations.planted_records import TOPIC
from tests.kit.operations.planted_rows import move_cursor, read, write
from tests.kit.proxies.kafka_proxy import KafkaProxy
from tests.kit.proxies.toxics import Timeout
from tests.kit.waiting import until

# mypy: disable-error-code="attr-defined"
# (confluent_kafka re-exports the names of its admin client without saying so)

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection
WITHIN_SECONDS = 120.0
READ_SECONDS = 5.0  # a busy machine reads the next record within it
MANY = """
    SELECT count(outbox.publish('test.note', 'k' || number %% 1000, 'test.noted.v1',
                                jsonb_build_object('text', repeat('x', %s))))
    FROM generate_series(1, %s) AS number
"""


async def audited(settings: Settings, asked: Range | None = None) -> Audit:
    async with await connect(settings) as connection:
        return await audit(connection, settings, asked)


async def test_an_audit_gives_up_a_broker_that_is_away_or_deaf(
    settings: Settings, proxy: KafkaProxy, postgres: Connection
) -> None:
    """It is refused at once; or the broker falls silent, and the audit ends within its time."""
    await write(postgres, "k")
    await relay_all(settings, postgres)
    settings = settings.model_copy(
        update={"kafka_url": proxy.address, "read_timeout_seconds": READ_SECONDS}
    )
    assert (await audited(settings)).right
    with proxy.toxic(Timeout()), pytest.raises(DependencyDown, match="kafka"):
        async with asyncio.timeout(WITHIN_SECONDS):
            await audited(settings)
    await proxy.down()
    with pytest.raises(DependencyDown, match="kafka"):
        await audited(settings)


async def test_an_audit_gives_up_a_broker_that_goes_deaf_while_records_are_read(
    settings: Settings, proxy: KafkaProxy, postgres: Connection
) -> None:
    await postgres.execute(MANY, [2_000, 5_000])
    await relay_all(settings, postgres)
    settings = settings.model_copy(
        update={"kafka_url": proxy.address, "read_timeout_seconds": READ_SECONDS}
    )
    async with await connect(settings) as connection:
        with pytest.raises(DependencyDown, match=f"no record for {READ_SECONDS:g} s"):
            await audit(connection, settings, on_progress=lambda _read, _of: proxy.add(Timeout()))


async def gone(admin: AdminClient) -> bool:
    return TOPIC not in admin.list_topics(timeout=20).topics


@pytest.fixture
def admin(servers: Servers, kafka_url: str) -> AdminClient:
    if not servers.real_kafka:
        pytest.skip("the mock broker drops nothing when it is asked to")
    return AdminClient({"bootstrap.servers": kafka_url})


async def test_what_the_topic_has_dropped_is_expired_and_not_lost(
    settings: Settings, postgres: Connection, admin: AdminClient
) -> None:
    """The partition may begin in the middle of a delivery; what is missing behind that is lost."""
    await postgres.execute(MANY, [10, 400])
    await relay_all(settings.model_copy(update={"page_messages": 50}), postgres)
    before = [TopicPartition(TOPIC, number, 33) for number in range(4)]
    for dropped in admin.delete_records(before).values():
        await asyncio.to_thread(dropped.result, 20)
    found = await audited(settings)
    assert found.findings == []
    counts = found.counts
    assert (counts.expired, counts.in_topics, counts.committed) == (4 * 33, 400 - 4 * 33, 400)
    lost = await write(postgres, "k1")
    await move_cursor(postgres)
    found = await audited(settings)
    assert [(each.kind, each.position) for each in found.findings] == [
        (FindingKind.LOST, lost.position)
    ]
    assert found.counts.expired == 4 * 33


async def test_a_topic_that_was_deleted_has_lost_its_messages(
    settings: Settings, postgres: Connection, admin: AdminClient
) -> None:
    """R13: and looking at it does not create it again."""
    first = await write(postgres, "k")
    await relay_all(settings, postgres)
    for deleted in admin.delete_topics([TOPIC]).values():
        await asyncio.to_thread(deleted.result, 20)
    await until(lambda: gone(admin), WITHIN_SECONDS)
    found = await audited(settings)
    assert [each.kind for each in found.findings] == [FindingKind.LOST, FindingKind.MISRECORDED]
    assert (await read(postgres, found.findings[0].position or 0)) == first
    assert TOPIC not in admin.list_topics(timeout=20).topics


GROWTH_MIB = 16.0


# What the kernel counts for a child begins with the size of its parent, so it tells by itself.
TELLING = """
import atexit, pathlib, runpy, sys
atexit.register(lambda: sys.stderr.write(pathlib.Path("/proc/self/status").read_text()))
runpy.run_module("outbox", run_name="__main__", alter_sys=True)
"""


def peak_mib(settings: Settings) -> float:
    """Return the most memory that the command held; it must find nothing."""
    command = [sys.executable, "-c", TELLING, "audit", "--json"]
    told = subprocess.run(
        command, env=environment(settings), capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(told.stdout)["right"]
    (peak,) = (line for line in told.stderr.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024


@pytest.mark.slow
async def test_memory_does_not_grow_with_what_is_audited(
    settings: Settings, postgres: Connection
) -> None:
    """Five times as many messages need hardly more memory; their records are some 50 MB."""
    peaks = []
    for thousands in (20, 80):
        for _ in range(thousands // 5):
            await postgres.execute(MANY, [10, 5_000])
        await relay_all(settings, postgres)
        peaks.append(peak_mib(settings))
    assert peaks[1] - peaks[0] < GROWTH_MIB, peaks
    found = await audited(settings)
    assert found.counts.committed == found.counts.in_topics + found.counts.expired == 100_000
