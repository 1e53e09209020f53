"""What a replay publishes: exactly what was selected and acknowledged before, as duplicates."""

from dataclasses import replace

import psycopg
import pytest

from consumers.settings import Settings
from outbox.errors import InvalidInput
from outbox.relay.parked_repair import ParkedSelection as Parked
from outbox.relay.parked_repair import discard
from outbox.relay.relay import Relay
from outbox.replay.source import ReplaySelection
from outbox.retention.retention import Retention
from tests.kit.aged import all_published, fetch, publish_aged
from tests.kit.load.relaying import relay_all
from tests.kit.load.roles import running
from tests.kit.operations import replaying
from tests.kit.past_days import past_day
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

Connection = psycopg.AsyncConnection


async def test_a_replay_says_the_same_again_on_the_same_partition(
    settings: Settings, postgres: Connection
) -> None:
    """I4, I5: they stand behind the first ones, in order of versions; nothing else changes."""
    await replaying.publish_and_relay(settings, postgres)
    before = {each.envelope.id: each for each in await replaying.read_topic(settings)}
    small = settings.model_copy(update={"page_messages": 7})
    ended = await replaying.run_replay(small, postgres, await replaying.record_replay(postgres))
    assert (ended.status, ended.sent, ended.refused, ended.selected) == ("done", 60, 0, 60)
    seen = [each for each in await replaying.read_topic(settings) if each.is_replayed]
    assert replaying.list_replayed(seen) == sorted(replaying.ALL)
    for each in seen:
        first = before[each.envelope.id]
        assert replace(each.envelope, term=first.envelope.term) == first.envelope
        assert (each.partition, each.envelope.term) == (first.partition, 0)
        assert each.offset > first.offset
    for key in {key for key, _ in replaying.ALL}:
        versions = [each.envelope.sequence for each in seen if each.envelope.key == key]
        assert versions == sorted(versions, key=lambda version: version or 0)


async def test_what_is_selected_is_what_is_said(settings: Settings, postgres: Connection) -> None:
    """O1: messages are selected by key, type, time and position; the preview counts the same."""
    await replaying.publish_and_relay(settings, postgres)
    at = await replaying.read_times(postgres)
    positions = [row[0] for row in await fetch(postgres, "SELECT position FROM outbox.messages")]
    rows = sorted(zip(map(int, map(str, positions)), replaying.ALL, strict=True))
    middle = rows[20][0]
    selections = [
        (
            ReplaySelection(keys=["k3", "k4"]),
            [each for each in replaying.ALL if each[0] in {"k3", "k4"}],
        ),
        (
            ReplaySelection(types=["test.noted.v2"]),
            [each for each in replaying.ALL if each[1] % 2 == 0],
        ),
        (ReplaySelection(keys=["k3"], types=["test.noted.v1"]), [("k3", 1), ("k3", 3), ("k3", 5)]),
        (ReplaySelection(first_position=middle), [each for p, each in rows if p >= middle]),
        (ReplaySelection(last_position=middle), [each for p, each in rows if p <= middle]),
        (ReplaySelection(since=at[0]), replaying.ALL),
        (ReplaySelection(topics=[replaying.TOPIC], aggregates=["test.note"]), replaying.ALL),
    ]
    said: list[tuple[str, int]] = []
    for selection, expected in selections:
        assert (await replaying.preview(postgres, selection)).messages == len(expected), selection
        await replaying.replay_now(settings, postgres, selection)
        said += expected
        assert await replaying.read_replayed(settings) == sorted(said), selection
    for nothing in (
        ReplaySelection(before=at[0]),
        ReplaySelection(keys=["K3"]),
        ReplaySelection(types=["x"]),
    ):
        with pytest.raises(InvalidInput, match="must select a message"):
            await replaying.record_replay(postgres, nothing)


PARK = """
INSERT INTO outbox.parked (aggregatetype, aggregateid, topic, position, reason)
VALUES ('test.note', %s, 'test.note.events', 1, 'too-large')
"""
LATE = "SELECT outbox.publish('test.note', 'late', 'test.noted.v1', '{}')"


async def test_what_was_never_acknowledged_is_not_said_by_a_replay(
    settings: Settings, postgres: Connection
) -> None:
    """I4: a replay would be the first occurrence of a pending, parked or discarded message."""
    for key in ("k1", "k2"):
        await postgres.execute(PARK, [key])
    async with await psycopg.AsyncConnection.connect(settings.libpq_url()) as late:
        await late.execute(LATE)  # it draws a position, and commits when the relay has passed it
        await replaying.publish(postgres, replaying.MESSAGES)
        with pytest.raises(InvalidInput):
            await replaying.record_replay(postgres)
        await relay_all(settings, postgres)
        # The refused one is planted as the first that waits.
        first = "SELECT min(position) FROM outbox.parked_messages WHERE aggregateid = 'k2'"
        ((position,),) = await fetch(postgres, first)
        await postgres.execute("UPDATE outbox.parked SET position = %s", [position])
        assert await discard(postgres, Parked(key="k2"), replaying.why("parked discard")) == 1

        async def what_waited_behind_it_flows() -> bool:
            waiting = "SELECT DISTINCT aggregateid FROM outbox.parked_messages"
            return await fetch(postgres, waiting) == [("k1",)]

        async with running(Relay(settings)):
            await until(what_waited_behind_it_flows, replaying.LONG)
    await postgres.execute(LATE)
    await replaying.replay_now(settings, postgres)
    expected = [each for each in replaying.ALL if each[0] != "k1" and each != ("k2", 1)]
    assert await replaying.read_replayed(settings) == sorted(expected)


async def test_what_retention_kept_is_said_with_a_new_timestamp_and_its_own_time(
    settings: Settings, postgres: Connection
) -> None:
    """O3: a day older than retention is dropped, and only each key's latest message is left."""
    await past_day(postgres, 40)
    await publish_aged(postgres, 40, "a", "b", "a")
    await all_published(postgres)
    assert (await Retention(postgres, settings, replaying.why()).prune()).dropped
    await replaying.publish_and_relay(settings, postgres, 10)
    ended = await replaying.replay_now(settings, postgres)
    assert ended.sent == 12
    seen = {
        each.envelope.key: each for each in await replaying.read_topic(settings) if each.is_replayed
    }
    assert (seen["a"].envelope.sequence, seen["b"].envelope.sequence) == (2, 1)
    for key in ("a", "b"):
        happened = seen[key].envelope.time
        assert happened is not None
        age_seconds = seen[key].timestamp_milliseconds / 1000 - happened.timestamp()
        assert 39 * 86_400 < age_seconds < 41 * 86_400
    positions = [e.envelope.position for e in await replaying.read_topic(settings) if e.is_replayed]
    assert len(set(positions)) == 12


async def test_nothing_is_recorded_without_a_reason(
    settings: Settings, postgres: Connection
) -> None:
    await replaying.publish_and_relay(settings, postgres, 5)
    with pytest.raises(InvalidInput, match="say why"):
        await replaying.record_replay(postgres, reason="  ")
    assert await fetch(postgres, "SELECT count(*) FROM outbox.replays") == [(0,)]
    assert await fetch(postgres, "SELECT count(*) FROM outbox.operations") == [(0,)]
