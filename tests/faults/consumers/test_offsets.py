"""Committed offsets that are gone, and offsets whose records are gone.

It runs on real Kafka only, because the mock broker does not remove records on request.
"""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.errors import Halted
from outbox.kafka import count_unread, has_committed, partition_of
from tests.kit.consumers.effects import Effects, verdict
from tests.kit.consumers.groups import OPTIONS, WITHIN_SECONDS, Connection, Held, consume, send
from tests.kit.load.role import Role
from tests.kit.load.stream import event
from tests.kit.operations.command_line import run
from tests.kit.topics import PARTITIONS
from tests.kit.verdicts.history import TOPIC

# mypy: disable-error-code="attr-defined"
# (confluent_kafka re-exports the names of its admin client without saying so)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("real_kafka"),
]


BEHIND = "behind"
PARTITION = partition_of(b"key", PARTITIONS)


@pytest.fixture
async def behind(member: Settings, tables: Connection) -> AsyncIterator[Effects]:
    """Version 1 of a key is done; of 2 to 5, the broker has removed 2 and 3."""
    del tables
    effects = Effects(member.libpq_url(), BEHIND, TOPIC, refuses=False)
    await consume(member, effects, [event("key", 1)])
    await send(member, *(event("key", version) for version in range(2, 6)))
    admin = AdminClient({"bootstrap.servers": member.kafka_url})
    for future in admin.delete_records([TopicPartition(TOPIC, PARTITION, 3)]).values():
        future.result(20)
    yield effects
    await effects.close()


async def test_a_jump_past_retention_is_not_made_silently(
    member: Settings, tables: Connection, behind: Effects
) -> None:
    """C3: records are removed that the group has not read; it halts, and says where."""
    with pytest.raises(Halted, match=f"{TOPIC}/{PARTITION} at 1.*skip-removed"):
        await asyncio.wait_for(Runner(member, behind).run(), WITHIN_SECONDS)
    role = Role("reactor", member, BEHIND, OPTIONS, "3000")
    await role.start()
    assert await role.ended(WITHIN_SECONDS) == 3
    assert "does not hold what comes next" in "".join(role.lines)
    assert "Traceback" not in "".join(role.lines)
    assert len((await verdict(tables, BEHIND, [event("key", 1)])).lost) == 0


async def test_a_person_lets_it_go_on_at_what_is_there(
    member: Settings, tables: Connection, behind: Effects
) -> None:
    """C3: what is lost is shown and kept on record; all that is still there is done, once."""
    lost = {
        "topic": TOPIC, "partition": PARTITION, "committed": 1, "earliest": 3, "end": 5,
        "messages": 2,
    }  # fmt: skip
    assert skipped(member, "--dry-run") == [lost]
    with pytest.raises(Halted):
        await asyncio.wait_for(Runner(member, behind).run(), WITHIN_SECONDS)
    assert skipped(member) == [lost]
    assert skipped(member) == [], "nothing is left to pass over"
    await consume(member, behind, [event("key", 6)])
    done = [event("key", version) for version in (1, 4, 5, 6)]
    assert (await verdict(tables, BEHIND, done)).right
    rows = await tables.execute(
        "SELECT subject, reason, details FROM outbox.operations WHERE action = 'skip-removed'"
    )
    assert await rows.fetchall() == [(BEHIND, "ticket 3", {"partitions": [lost]})]


async def test_nothing_is_passed_over_while_the_group_has_members(
    member: Settings, tables: Connection, behind: Effects
) -> None:
    """C3: running members would not learn of it. Exit code 3, and nothing is on record."""
    del behind
    async with AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=member.kafka_url,
        group_id=f"aftercommit.{BEHIND}",
        enable_auto_commit=False,
    ) as reader:
        await reader.getmany(timeout_ms=5_000)  # joins
        ran = await asyncio.to_thread(skip, member, BEHIND)
    assert ran.returncode == 3
    assert ran.stderr.startswith(f"aftercommit.{BEHIND} has members: stop them first")
    rows = await tables.execute("SELECT count(*) FROM outbox.operations")
    assert await rows.fetchone() == (0,)


def test_a_consumer_that_has_never_committed_is_a_wrong_name(member: Settings) -> None:
    ran = skip(member, "moon")
    assert ran.returncode == 3
    assert ran.stderr == "aftercommit.moon has committed no offsets: look at the name\n"


def skipped(settings: Settings, *options: str) -> Any:
    ran = skip(settings, BEHIND, *options)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)["passed_over"]


def skip(settings: Settings, consumer: str, *options: str) -> "subprocess.CompletedProcess[str]":
    why = ("--reason", "ticket 3", "--json")
    return run(settings, "consumers", "skip-removed", consumer, *why, *options)


async def test_a_group_whose_offsets_are_gone_begins_again_and_changes_nothing(
    member: Settings, tables: Connection
) -> None:
    """C4, I6, I7: everything is read again, and nothing is done twice."""
    effects = Effects(member.libpq_url(), "forgotten", TOPIC, refuses=False)
    sent = [event(f"key{number % 5}", 1 + number // 5) for number in range(50)]
    await consume(member, effects, sent)
    admin = AdminClient({"bootstrap.servers": member.kafka_url})
    for future in admin.delete_consumer_groups(["aftercommit.forgotten"]).values():
        future.result(20)
    again = Held(member, "forgotten")
    again.go.set()
    await consume(member, again, [])
    assert sorted(again.ended) == sorted(each.id for each in sent), "all of it came again"
    assert (await verdict(tables, "forgotten", sent)).right
    await effects.close()
    await again.close()


async def test_who_only_looks_at_a_group_commits_nothing_in_its_name(
    member: Settings, tables: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C4, I6: the group has never read; asking how far it is must not move it to the end, however
    long the question takes."""
    stop = AIOKafkaConsumer.stop

    async def stop_late(reader: AIOKafkaConsumer) -> None:
        await asyncio.sleep(0.5)
        await stop(reader)

    monkeypatch.setattr(AIOKafkaConsumer, "stop", stop_late)
    sent = [event(f"key{number % 5}", 1 + number // 5) for number in range(20)]
    await send(member, *sent)
    for _ in range(5):
        assert await count_unread(member.kafka_url, "aftercommit.new", [TOPIC]) == len(sent)
        assert not await has_committed(member.kafka_url, "aftercommit.new", [TOPIC])
    monkeypatch.undo()
    effects = Effects(member.libpq_url(), "new", TOPIC, refuses=False)
    await consume(member, effects, [])
    assert (await verdict(tables, "new", sent)).right
    await effects.close()
