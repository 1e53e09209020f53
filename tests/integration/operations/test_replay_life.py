"""The life of a replay: it is paused, resumed, cancelled, stopped and taken over, and it ends."""

import asyncio

import psycopg
import pytest

from consumers.settings import Settings
from outbox.errors import InvalidInput, LeaseLost, SchemaBehind
from outbox.replay import replayer as replay_module
from outbox.replay.lease import take_lease
from outbox.replay.replayer import Replayer
from outbox.replay.requests import cancel, find, list_replays, pause, resume
from tests.kit.aged import fetch
from tests.kit.captured import captured
from tests.kit.operations import replaying

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

Connection = psycopg.AsyncConnection


async def test_a_replay_is_paused_resumed_and_cancelled_by_a_person(
    settings: Settings, postgres: Connection
) -> None:
    """At 20 messages a second; each change is recorded with operator, action and reason."""
    await replaying.publish_and_relay(settings, postgres)
    replay = await replaying.record_replay(postgres, rate=20)
    running_it = asyncio.create_task(Replayer(settings, replay.id).run())
    await replaying.wait_until_some_are_sent(postgres, replay)
    await pause(postgres, replay.id, replaying.why("replay pause"))
    await asyncio.wait_for(running_it, replaying.LONG)
    paused = await find(postgres, replay.id)
    assert (paused.status, paused.owner) == ("paused", None)
    assert 0 < paused.sent < replaying.MESSAGES
    assert len(await replaying.read_replayed(settings)) == paused.sent
    await replaying.run_replay(settings, postgres, paused)
    assert (await find(postgres, replay.id)).sent == paused.sent, "nobody runs what is paused"
    await resume(postgres, replay.id, replaying.why("replay resume"), replaying.FAST)
    ended = await replaying.run_replay(settings, postgres, replay)
    assert (ended.status, ended.sent) == ("done", replaying.MESSAGES)
    assert await replaying.read_replayed(settings) == sorted(replaying.ALL)
    with pytest.raises(InvalidInput, match="it is done"):
        await cancel(postgres, replay.id, replaying.why("replay cancel"))
    second = await replaying.record_replay(postgres)
    await cancel(postgres, second.id, replaying.why("replay cancel"))
    assert (await replaying.run_replay(settings, postgres, second)).sent == 0
    done = await fetch(postgres, "SELECT action, operator, reason FROM outbox.operations")
    actions = ["start", "pause", "resume", "start", "cancel"]
    assert done == [(f"replay {action}", "somebody", "a test") for action in actions]
    listed = [(each.id, each.status) for each in await list_replays(postgres, 10)]
    assert listed == [(second.id, "cancelled"), (replay.id, "done")]


async def test_it_keeps_to_its_rate_and_goes_on_after_a_stop(
    settings: Settings, postgres: Connection
) -> None:
    """A stop writes the checkpoint: nothing is replayed twice."""
    await replaying.publish_and_relay(settings, postgres)
    replay = await replaying.record_replay(postgres, rate=20)
    loop = asyncio.get_running_loop()
    began = loop.time()
    first = Replayer(settings, replay.id)
    task = asyncio.create_task(first.run())
    await replaying.wait_until_some_are_sent(postgres, replay)
    first.stop()
    await asyncio.wait_for(task, replaying.LONG)
    stopped = await find(postgres, replay.id)
    assert (stopped.status, stopped.owner) == ("running", None)
    ended = await replaying.run_replay(settings, postgres, replay)
    assert ended.sent == replaying.MESSAGES
    assert loop.time() - began >= 1.9, "60 messages at 20 a second, the last batch unpaid"
    assert await replaying.read_replayed(settings) == sorted(replaying.ALL)


async def test_two_processes_at_one_replay_take_turns(
    settings: Settings, postgres: Connection
) -> None:
    """The others stand by, and find it done; nothing is replayed twice."""
    await replaying.publish_and_relay(settings, postgres)
    replay = await replaying.record_replay(postgres, rate=60)
    async with asyncio.timeout(replaying.LONG):
        await asyncio.gather(*(Replayer(settings, replay.id).run() for _ in range(3)))
    ended = await find(postgres, replay.id)
    assert (ended.status, ended.sent) == ("done", replaying.MESSAGES)
    assert await replaying.read_replayed(settings) == sorted(replaying.ALL)


async def test_a_process_whose_turn_is_over_moves_no_checkpoint(
    settings: Settings, postgres: Connection
) -> None:
    """It may have been stopped for longer than its lease, and the next one has begun."""
    await replaying.publish_and_relay(settings, postgres, 5)
    replay = await replaying.record_replay(postgres)
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
    """FD4: it says `done`, not the status of a moment before."""
    await replaying.publish_and_relay(settings, postgres)
    with captured(replay_module) as lines:
        await replaying.replay_now(settings, postgres)
    (closing,) = [each for each in lines if each["event"] == "replay stopped"]
    assert closing["status"] == "done"


async def test_a_replay_does_not_wait_for_migrations_that_are_missing(
    settings: Settings, postgres: Connection
) -> None:
    await replaying.publish_and_relay(settings, postgres)
    replay = await replaying.record_replay(postgres)
    await postgres.execute(
        "DELETE FROM outbox.migrations WHERE component = 'outbox' AND number = 14"
    )
    with pytest.raises(SchemaBehind, match="outbox 0014"):
        await asyncio.wait_for(Replayer(settings, replay.id).run(), replaying.LONG)
    assert (await find(postgres, replay.id)).sent == 0
