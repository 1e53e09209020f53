"""FA2: no reader of this project sees what a Kafka transaction has not committed.

It runs on real Kafka only.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.audit.audit import Audit, audit
from outbox.errors import DependencyDown
from outbox.kafka import Record, Tail, count_unread, find_lost_records, partition_of
from outbox.kafka.reader import Reader
from outbox.postgres.connection import connect
from schemas.catalog import CreateCatalog
from schemas.envelope import Envelope
from schemas.wire import encode
from stack.demo.upstream import envelope_of, record_of
from tests.kit.consumers.groups import Connection, send
from tests.kit.consumers.notes import Notes
from tests.kit.load.relaying import relay_all
from tests.kit.load.roles import COMMANDS, command_side, running
from tests.kit.load.roles import send as send_commands
from tests.kit.load.stream import event
from tests.kit.load.transactions import Transactions
from tests.kit.operations.planted_records import TOPIC as AUDITED
from tests.kit.operations.planted_rows import write
from tests.kit.verdicts.history import TOPIC
from tests.kit.waiting import until

# mypy: disable-error-code="attr-defined"
# (confluent_kafka re-exports the names of its admin client without saying so)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300), pytest.mark.usefixtures("real_kafka")]

WITHIN_SECONDS = 90.0
PARTITIONS = 4
GROUP = f"aftercommit.{Notes.name}"
CATALOGS = "SELECT coalesce(array_agg(catalog_id ORDER BY catalog_id), '{}') FROM catalog.catalogs"


def name_of_partition(partition: int) -> str:
    """The id of a catalog whose commands go to that partition."""
    names = (f"c{number}" for number in range(100))
    return next(n for n in names if partition_of(n.encode(), PARTITIONS) == partition)


OPEN = partition_of(b"open", PARTITIONS)
BEHIND, BESIDE = name_of_partition(OPEN), name_of_partition((OPEN + 1) % PARTITIONS)


@pytest.fixture
async def another(settings: Settings) -> AsyncIterator[Transactions]:
    async with Transactions(settings) as transactions:
        yield transactions


def records(*events: Envelope) -> list[Record]:
    return [Record(0, TOPIC, *encode(each)) for each in events]


def command(catalog: str) -> Envelope:
    return envelope_of(CreateCatalog(catalog_id=catalog, name=catalog))


async def catalogs(postgres: Connection) -> list[str]:
    row = await (await postgres.execute(CATALOGS)).fetchone()
    assert row is not None
    return list(row[0])


async def test_commands_are_executed_once_their_transaction_is_committed_and_never_otherwise(
    settings: Settings, postgres: Connection, another: Transactions
) -> None:
    """A command behind an open transaction waits with it, in order."""
    async with command_side(settings):
        await another.send(record_of(command("aborted"), COMMANDS))
        await another.abort()
        await another.send(record_of(command("open"), COMMANDS))
        await send_commands(settings, [command(BEHIND), command(BESIDE)])
        await until(lambda: shows(postgres, [BESIDE]), WITHIN_SECONDS)
        await another.commit()
        await until(lambda: shows(postgres, [BESIDE, BEHIND, "open"]), WITHIN_SECONDS)
        group = "aftercommit.catalog-commands"
        await until(lambda: has_lag(settings, group, COMMANDS, 0), WITHIN_SECONDS)


async def shows(postgres: Connection, expected: Sequence[str]) -> bool:
    found = await catalogs(postgres)
    assert "aborted" not in found
    return found == sorted(expected)


async def has_lag(settings: Settings, group: str, topic: str, expected: int) -> bool:
    return await count_unread(settings.kafka_url, group, [topic]) == expected


async def test_a_key_keeps_its_order_around_transactions_that_end_either_way(
    settings: Settings, another: Transactions
) -> None:
    async with consuming(settings) as notes:
        await send(settings, event("k", 1))
        await another.send(*records(event("k", 2), event("k", 3)))
        await send(settings, event("k", 6))
        await another.abort()
        await another.send(*records(event("k", 7)))
        await send(settings, event("k", 8))
        await until(lambda: notes.has("k@6"), WITHIN_SECONDS)
        assert "k@8" not in notes.applied
        await another.commit()
        await until(lambda: notes.has("k@8"), WITHIN_SECONDS)
        await until(lambda: has_lag(settings, GROUP, TOPIC, 0), WITHIN_SECONDS)
    assert notes.of_key("k") == ["k@1", "k@6", "k@7", "k@8"]


@asynccontextmanager
async def consuming(settings: Settings, notes: Notes | None = None) -> AsyncIterator[Notes]:
    """Run a consumer that takes notes for the length of the block; yield the notes."""
    notes = Notes() if notes is None else notes
    async with running(Runner(settings, notes)):
        yield notes


async def test_a_group_is_not_behind_for_ever_because_of_markers_and_what_was_rolled_back(
    settings: Settings, another: Transactions
) -> None:
    """They are at the end of a partition, for a running member and for one that joins later."""
    async with consuming(settings) as notes:
        await send(settings, event("k", 1))
        await another.send(*records(event("k", 2)))
        await another.commit()
        await until(lambda: has_lag(settings, GROUP, TOPIC, 0), WITHIN_SECONDS)
        await another.send(*records(event("k", 3), event("k", 4)))
        await another.abort()
        await until(lambda: has_lag(settings, GROUP, TOPIC, 0), WITHIN_SECONDS)
    await another.send(*records(event("k", 5)))
    await another.abort()
    assert await count_unread(settings.kafka_url, GROUP, [TOPIC]) == 2
    async with consuming(settings, notes):
        await until(lambda: has_lag(settings, GROUP, TOPIC, 0), WITHIN_SECONDS)
    assert notes.applied == ["k@1", "k@2"]


async def test_a_group_goes_on_where_only_markers_were_removed_before_it_came_back(
    settings: Settings, another: Transactions, kafka_url: str
) -> None:
    """No record that it had to read is gone, so it does not ask an operator to skip any."""
    async with consuming(settings) as notes:
        await another.send(*records(event("k", 1)))
        await another.commit()
        await until(lambda: notes.has("k@1"), WITHIN_SECONDS)
        await until(lambda: has_lag(settings, GROUP, TOPIC, 0), WITHIN_SECONDS)
    await asyncio.to_thread(remove_all, kafka_url)
    assert await find_lost_records(kafka_url, GROUP, 30.0) == []
    async with consuming(settings, notes):
        await send(settings, event("k", 2))
        await until(lambda: notes.has("k@2"), WITHIN_SECONDS)


def remove_all(kafka_url: str) -> None:
    """Remove all records, like Kafka's retention with a topic that gets no new ones."""
    admin = AdminClient({"bootstrap.servers": kafka_url})
    at = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
    latest: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call] # it says no types
    ends = admin.list_offsets(dict.fromkeys(at, latest))
    before = [
        TopicPartition(TOPIC, tp.partition, end.result(20).offset) for tp, end in ends.items()
    ]
    for dropped in admin.delete_records(before).values():
        dropped.result(20)


async def audited(settings: Settings) -> Audit:
    async with await connect(settings) as connection:
        return await audit(connection, settings)


async def test_an_audit_is_right_beside_aborted_records_and_markers(
    settings: Settings, postgres: Connection, another: Transactions
) -> None:
    """They are neither foreign nor lost, at the end of a partition and between its records."""
    foreign = Record(0, AUDITED, b"k", b"{}", [])
    await another.send(foreign)
    await another.abort()
    await write(postgres, "k")
    await relay_all(settings, postgres)
    await another.send(foreign)
    await another.abort()
    found = await audited(settings)
    assert found.right
    assert (found.counts.foreign, found.counts.lost, found.counts.in_topics) == (0, 0, 1)


async def test_an_audit_does_not_judge_what_an_open_transaction_keeps_from_it(
    settings: Settings, postgres: Connection, another: Transactions
) -> None:
    """The audit names the partition, and is right again when the transaction has ended."""
    impatient = settings.model_copy(update={"read_timeout_seconds": 2.0})
    await another.send(Record(0, AUDITED, b"k", b"{}", []))
    await write(postgres, "k")
    await relay_all(settings, postgres)
    with pytest.raises(DependencyDown, match=f"{AUDITED}/.*transaction is open from offset 0"):
        await audited(impatient)
    await another.abort()
    found = await audited(settings)
    assert (found.right, found.counts.lost, found.counts.foreign) == (True, 0, 0)


async def test_who_follows_from_now_on_gets_what_an_open_transaction_commits_later(
    settings: Settings, another: Transactions
) -> None:
    """The reader has caught up only once it has read what the transaction commits."""
    await another.send(*records(event("k", 1)))
    await send(settings, event("k", 2))
    async with Tail(settings.kafka_url, [TOPIC], WITHIN_SECONDS) as tail:
        ends = await tail.ends()
        assert await tail.position() != ends
        assert list(await tail.next_records(10, 100)) == []
        await another.commit()
        got: list[int] = []
        async with asyncio.timeout(WITHIN_SECONDS):
            while len(got) < 2:
                got += [each.offset for each in await tail.next_records(10, 100)]
    assert got == [0, 1]


async def test_a_reader_passes_a_partition_that_holds_only_what_was_rolled_back(
    settings: Settings, another: Transactions
) -> None:
    await another.send(*records(*(event("k", version) for version in range(1, 50))))
    await another.abort()
    async with Reader(settings.kafka_url, [TOPIC], WITHIN_SECONDS) as reader:
        held = await reader.read_ranges()
        assert sum(each.end for each in held.values()) == 50
        assert [some async for some in reader.read(held)] == []
