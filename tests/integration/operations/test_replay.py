"""Replay: published messages again, as duplicates; chosen, bounded, interruptible, recorded."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import psycopg
import pytest

from consumers.projections.projection import Change
from consumers.projections.testing.memory import MemoryProjection
from consumers.settings import Settings
from outbox.audit.audit import audit
from outbox.audit.scope import Range
from outbox.errors import LeaseLost, MessageRejected
from outbox.kafka import has_committed
from outbox.operations import Operation
from outbox.postgres.connection import connect
from outbox.relay.parked_repair import ParkedSelection as Parked
from outbox.relay.parked_repair import discard
from outbox.relay.relay import Relay
from outbox.replay import replayer as replay_module
from outbox.replay.lease import take_lease
from outbox.replay.replayer import Replayer
from outbox.replay.requests import cancel, find, list_replays, pause, resume
from outbox.replay.source import ReplaySelection
from outbox.retention.retention import Retention
from schemas.catalog import ItemEvent
from tests.kit.aged import all_published, fetch, past_day, publish_aged
from tests.kit.captured import captured
from tests.kit.load.roles import projecting, running
from tests.kit.replaying import (
    FAST,
    LONG,
    TOPIC,
    counted,
    on_topic,
    publish,
    recorded,
    relayed,
    replayed,
    said_again,
    times,
)
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

Connection = psycopg.AsyncConnection
MESSAGES = 60
KEYS = 10
ALL = [(f"k{n % KEYS}", n // KEYS + 1) for n in range(MESSAGES)]


def why(action: str = "replay") -> Operation:
    return Operation("somebody", action, "notes", "a test")


async def test_a_replay_says_the_same_again_on_the_same_partition(
    settings: Settings, postgres: Connection
) -> None:
    """I4, I5: after the first ones, in the order of each key's versions; nothing else changes."""
    await publish(postgres, MESSAGES)
    await relayed(settings, postgres)
    before = {each.envelope.id: each for each in await on_topic(settings)}
    small = settings.model_copy(update={"page_messages": 7})
    ended = await replayed(small, postgres, await recorded(postgres))
    assert (ended.status, ended.sent, ended.refused, ended.selected) == ("done", 60, 0, 60)
    seen = [each for each in await on_topic(settings) if each.is_replayed]
    assert said_again(seen) == sorted(ALL)
    for each in seen:
        first = before[each.envelope.id]
        assert replace(each.envelope, term=first.envelope.term) == first.envelope
        assert (each.partition, each.envelope.term) == (first.partition, 0)
        assert each.offset > first.offset
    for key in {key for key, _ in ALL}:
        versions = [each.envelope.sequence for each in seen if each.envelope.key == key]
        assert versions == sorted(versions, key=lambda version: version or 0)


async def test_what_is_selected_is_what_is_said(settings: Settings, postgres: Connection) -> None:
    """O1: by key, type, time and position; the preview counts the same."""
    await publish(postgres, MESSAGES)
    await relayed(settings, postgres)
    at = await times(postgres)
    positions = [row[0] for row in await fetch(postgres, "SELECT position FROM outbox.messages")]
    rows = sorted(zip(map(int, map(str, positions)), ALL, strict=True))
    middle = rows[20][0]
    selections = [
        (ReplaySelection(keys=["k3", "k4"]), [each for each in ALL if each[0] in {"k3", "k4"}]),
        (ReplaySelection(types=["test.noted.v2"]), [each for each in ALL if each[1] % 2 == 0]),
        (ReplaySelection(keys=["k3"], types=["test.noted.v1"]), [("k3", 1), ("k3", 3), ("k3", 5)]),
        (ReplaySelection(first_position=middle), [each for p, each in rows if p >= middle]),
        (ReplaySelection(last_position=middle), [each for p, each in rows if p <= middle]),
        (ReplaySelection(since=at[0]), ALL),
        (ReplaySelection(topics=[TOPIC], aggregates=["test.note"]), ALL),
    ]
    said: list[tuple[str, int]] = []
    for selection, expected in selections:
        assert (await counted(postgres, selection)).messages == len(expected), selection
        await replayed(settings, postgres, await recorded(postgres, selection))
        said += expected
        assert said_again(await on_topic(settings)) == sorted(said), selection
    for nothing in (
        ReplaySelection(before=at[0]),
        ReplaySelection(keys=["K3"]),
        ReplaySelection(types=["x"]),
    ):
        with pytest.raises(MessageRejected, match="must select a message"):
            await recorded(postgres, nothing)


PARK = """
INSERT INTO outbox.parked (aggregatetype, aggregateid, topic, position, reason)
VALUES ('test.note', %s, 'test.note.events', 1, 'too-large')
"""
LATE = "SELECT outbox.publish('test.note', 'late', 'test.noted.v1', '{}')"


async def test_what_was_never_acknowledged_is_not_said_by_a_replay(
    settings: Settings, postgres: Connection
) -> None:
    """I4: pending, parked and discarded messages: a replay would be their first occurrence."""
    for key in ("k1", "k2"):
        await postgres.execute(PARK, [key])
    async with await psycopg.AsyncConnection.connect(settings.libpq_url()) as late:
        await late.execute(LATE)  # has its position, and commits when the relay has passed that
        await publish(postgres, MESSAGES)
        with pytest.raises(MessageRejected):
            await recorded(postgres)
        await relayed(settings, postgres)
        # The refused one is planted as the first that waits.
        first = "SELECT min(position) FROM outbox.parked_messages WHERE aggregateid = 'k2'"
        ((position,),) = await fetch(postgres, first)
        await postgres.execute("UPDATE outbox.parked SET position = %s", [position])
        assert await discard(postgres, Parked(key="k2"), why("parked discard")) == 1

        async def what_waited_behind_it_flows() -> bool:
            waiting = "SELECT DISTINCT aggregateid FROM outbox.parked_messages"
            return await fetch(postgres, waiting) == [("k1",)]

        async with running(Relay(settings)):
            await until(what_waited_behind_it_flows, LONG)
    await postgres.execute(LATE)
    await replayed(settings, postgres, await recorded(postgres))
    expected = [each for each in ALL if each[0] != "k1" and each != ("k2", 1)]
    assert said_again(await on_topic(settings)) == sorted(expected)


async def test_what_retention_kept_is_said_with_a_new_timestamp_and_its_own_time(
    settings: Settings, postgres: Connection
) -> None:
    """O3: older than any retention: its day is dropped, and only each key's latest is left."""
    await past_day(postgres, 40)
    await publish_aged(postgres, 40, "a", "b", "a")
    await all_published(postgres)
    assert (await Retention(postgres, settings, why()).prune()).dropped
    await publish(postgres, 10)
    await relayed(settings, postgres)
    ended = await replayed(settings, postgres, await recorded(postgres))
    assert ended.sent == 12
    seen = {each.envelope.key: each for each in await on_topic(settings) if each.is_replayed}
    assert (seen["a"].envelope.sequence, seen["b"].envelope.sequence) == (2, 1)
    for key in ("a", "b"):
        happened = seen[key].envelope.time
        assert happened is not None
        age_seconds = seen[key].timestamp_milliseconds / 1000 - happened.timestamp()
        assert 39 * 86_400 < age_seconds < 41 * 86_400
    positions = [e.envelope.position for e in await on_topic(settings) if e.is_replayed]
    assert len(set(positions)) == 12


class Named(MemoryProjection):
    """A consumer of its own."""

    def __init__(self, name: str) -> None:
        super().__init__([ItemEvent.aggregate], [ItemEvent.topic])
        self.name = name
        self.applied = 0

    async def apply(self, changes: Sequence[Change]) -> None:
        self.applied += len(changes)
        await super().apply(changes)


UPSERT = """
SELECT outbox.publish('catalog.item', 'c/' || n % 5, 'catalog.item-upserted.v1', jsonb_build_object(
    'catalog_id', 'c', 'item_id', (n % 5)::text, 'name', 'n' || n, 'text', 't',
    'attributes', '{}'::jsonb)) FROM generate_series(1, 20) AS n
"""


async def test_a_replay_for_one_consumer_is_passed_over_by_the_others(
    settings: Settings, postgres: Connection
) -> None:
    """Its store lost everything; another store, that lost everything too, stays as it is."""
    one, other = Named("one"), Named("other")
    roles = (Relay(settings), projecting(settings, one), projecting(settings, other))
    async with running(*roles):
        await postgres.execute(UPSERT)

        async def both_show_all() -> bool:
            return all(len(each.state) == 5 and each.applied >= 20 for each in (one, other))

        await until(both_show_all, LONG)
        whole = dict(one.state)
        one.state.clear()
        other.state.clear()
        await replayed(settings, postgres, await recorded(postgres, consumer="one"))

        async def it_is_back() -> bool:
            return one.state == whole

        await until(it_is_back, LONG)
        known = await has_committed(settings.kafka_url, "aftercommit.one", [ItemEvent.topic])
        # What comes behind the replay is applied by both, so the other one has passed it.
        await postgres.execute(UPSERT.replace("1, 20", "21, 21"))

        async def both_have_the_next() -> bool:
            return all(any(c.version == 5 for c in each.state.values()) for each in (one, other))

        await until(both_have_the_next, LONG)
    assert len(other.state) == 1
    assert known
    assert not await has_committed(settings.kafka_url, "aftercommit.nobody", [ItemEvent.topic])


LETTER = """
INSERT INTO outbox.dead_letters
    (consumer, topic, partition, "offset", key, headers, stream, reason, error, attempts, status)
VALUES ('other', 'catalog.item.events', 0, -1, 'c/0', '[]', 'catalog.item.events/c/0', 'planted',
        'planted', 1, 'dead')
"""
LETTERS = "SELECT count(*) FROM outbox.dead_letters WHERE consumer = 'other'"


async def test_a_replay_for_one_consumer_does_not_wait_at_another_ones_parked_key(
    settings: Settings, postgres: Connection
) -> None:
    """I12: whoever has nothing to do with it has no letters of it either."""
    await postgres.execute(LETTER)
    await postgres.execute(UPSERT)
    await relayed(settings, postgres)
    other = Named("other")
    async with running(Relay(settings), projecting(settings, other)):
        await replayed(settings, postgres, await recorded(postgres, consumer="one"))
        # What comes behind the replay: a message of every key.
        await postgres.execute(UPSERT.replace("1, 20", "21, 25"))

        async def all_has_come() -> bool:
            shown = [each.version for each in other.state.values()]
            return shown == [5] * 4 and await fetch(postgres, LETTERS) >= [(6,)]

        await until(all_has_come, LONG)
    assert await fetch(postgres, LETTERS) == [(6,)], "the planted one, and five live messages"


async def test_a_replay_is_paused_resumed_and_cancelled_by_a_person(
    settings: Settings, postgres: Connection
) -> None:
    """At 20 messages a second; who, why and what is an operation each time."""
    await publish(postgres, MESSAGES)
    await relayed(settings, postgres)
    replay = await recorded(postgres, rate=20)
    running_it = asyncio.create_task(Replayer(settings, replay.id).run())

    async def some_are_sent() -> bool:
        return (await find(postgres, replay.id)).sent > 0

    await until(some_are_sent, LONG)
    await pause(postgres, replay.id, why("replay pause"))
    await asyncio.wait_for(running_it, LONG)
    paused = await find(postgres, replay.id)
    assert (paused.status, paused.owner) == ("paused", None)
    assert 0 < paused.sent < MESSAGES
    assert len(said_again(await on_topic(settings))) == paused.sent
    await replayed(settings, postgres, paused)
    assert (await find(postgres, replay.id)).sent == paused.sent, "nobody runs what is paused"
    await resume(postgres, replay.id, why("replay resume"), FAST)
    ended = await replayed(settings, postgres, replay)
    assert (ended.status, ended.sent) == ("done", MESSAGES)
    assert said_again(await on_topic(settings)) == sorted(ALL)
    with pytest.raises(MessageRejected, match="it is done"):
        await cancel(postgres, replay.id, why("replay cancel"))
    second = await recorded(postgres)
    await cancel(postgres, second.id, why("replay cancel"))
    assert (await replayed(settings, postgres, second)).sent == 0
    done = await fetch(postgres, "SELECT action, operator, reason FROM outbox.operations")
    actions = ["start", "pause", "resume", "start", "cancel"]
    assert done == [(f"replay {action}", "somebody", "a test") for action in actions]
    listed = [(each.id, each.status) for each in await list_replays(postgres, 10)]
    assert listed == [(second.id, "cancelled"), (replay.id, "done")]


async def test_it_keeps_to_its_rate_and_goes_on_after_a_stop(
    settings: Settings, postgres: Connection
) -> None:
    """A stop keeps the checkpoint: nothing is said a third time."""
    await publish(postgres, MESSAGES)
    await relayed(settings, postgres)
    replay = await recorded(postgres, rate=20)
    loop = asyncio.get_running_loop()
    began = loop.time()
    first = Replayer(settings, replay.id)
    task = asyncio.create_task(first.run())

    async def some_are_sent() -> bool:
        return (await find(postgres, replay.id)).sent > 0

    await until(some_are_sent, LONG)
    first.stop()
    await asyncio.wait_for(task, LONG)
    stopped = await find(postgres, replay.id)
    assert (stopped.status, stopped.owner) == ("running", None)
    ended = await replayed(settings, postgres, replay)
    assert ended.sent == MESSAGES
    assert loop.time() - began >= 1.9, "60 messages at 20 a second, the last batch unpaid"
    assert said_again(await on_topic(settings)) == sorted(ALL)


async def test_two_processes_at_one_replay_take_turns(
    settings: Settings, postgres: Connection
) -> None:
    """The second stands by, and finds it done; nothing is said twice."""
    await publish(postgres, MESSAGES)
    await relayed(settings, postgres)
    replay = await recorded(postgres, rate=60)
    async with asyncio.timeout(LONG):
        await asyncio.gather(*(Replayer(settings, replay.id).run() for _ in range(3)))
    ended = await find(postgres, replay.id)
    assert (ended.status, ended.sent) == ("done", MESSAGES)
    assert said_again(await on_topic(settings)) == sorted(ALL)


async def test_nothing_is_recorded_without_a_reason(
    settings: Settings, postgres: Connection
) -> None:
    await publish(postgres, 5)
    await relayed(settings, postgres)
    with pytest.raises(MessageRejected, match="say why"):
        await recorded(postgres, reason="  ")
    assert await fetch(postgres, "SELECT count(*) FROM outbox.replays") == [(0,)]
    assert await fetch(postgres, "SELECT count(*) FROM outbox.operations") == [(0,)]


async def test_the_audit_finds_a_replayed_topic_right(
    settings: Settings, postgres: Connection
) -> None:
    """A replay's records are faithful copies, whatever their term."""
    await publish(postgres, MESSAGES)
    await relayed(settings, postgres)
    await replayed(settings, postgres, await recorded(postgres))
    async with await connect(settings) as connection:
        found = await audit(connection, settings, Range(), 1_000)
    assert found.right, found.findings
    whys = [each.why for each in found.findings]
    assert whys.count("replay") == MESSAGES  # a slow relay may have repeated some, too


async def test_the_audit_takes_what_its_topic_no_longer_held_for_no_reordering(
    settings: Settings, postgres: Connection
) -> None:
    """O3: as if the topic's own retention had removed version 1: its replay stands behind 2.

    The removal is a stand-in: the cursor is moved past a message that was never sent.
    """
    await postgres.execute(LATE)
    await all_published(postgres)
    await postgres.execute(LATE)
    await relayed(settings, postgres)
    assert (await replayed(settings, postgres, await recorded(postgres))).sent == 2
    versions = [each.envelope.sequence for each in await on_topic(settings)]
    assert versions == [2, 1, 2]
    async with await connect(settings) as connection:
        found = await audit(connection, settings, Range())
    assert found.right, found.findings


async def test_a_process_whose_turn_is_over_moves_no_checkpoint(
    settings: Settings, postgres: Connection
) -> None:
    """It was stopped for longer than its lease, say; the next one has begun."""
    await publish(postgres, 5)
    await relayed(settings, postgres)
    replay = await recorded(postgres)
    zombie = await take_lease(postgres, replay.id, "zombie", 5)
    assert zombie is not None
    assert await take_lease(postgres, replay.id, "next", 5) is None
    await postgres.execute("UPDATE outbox.replays SET expires_at = now() - interval '1 s'")
    successor = await take_lease(postgres, replay.id, "next", 5)
    assert successor is not None
    with pytest.raises(LeaseLost):
        await zombie.checkpoint(10**12, 5)
    with pytest.raises(LeaseLost):
        await zombie.finish()
    await zombie.release()
    found = await find(postgres, replay.id)
    assert (found.position, found.sent, found.owner) == (replay.position, 0, "next")
    await successor.checkpoint(10**12, 5)
    await successor.finish()
    assert (await find(postgres, replay.id)).status == "done"


async def test_the_closing_line_of_a_replay_says_what_it_is(
    settings: Settings, postgres: Connection
) -> None:
    """FD4: done, and not the status that it had a moment before."""
    await publish(postgres, MESSAGES)
    await relayed(settings, postgres)
    with captured(replay_module) as lines:
        await replayed(settings, postgres, await recorded(postgres))
    (closing,) = [each for each in lines if each["event"] == "replay stopped"]
    assert closing["status"] == "done"
