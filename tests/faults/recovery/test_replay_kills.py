"""`kill -9` of a replay at each of its failpoints, beside live traffic on the same keys; O2."""

from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from consumers.settings import Settings
from outbox.relay.relay import Relay
from outbox.replay.requests import find
from outbox.runtime.failpoints import Failpoint
from tests.faults.relay.test_failpoint_kills import points, writing
from tests.kit.load.kills import KILLS, Killer, reported
from tests.kit.load.relaying import relay_all
from tests.kit.load.roles import running
from tests.kit.operations.replaying import Seen, read_topic, record_replay, run_replay
from tests.kit.verdicts.history import TOPIC
from tests.kit.verdicts.witness import Witness

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]

PAGE = 50
MESSAGES = (KILLS * 12 + 2) * PAGE  # no process comes to the end before it is killed
BEFORE = """
SELECT outbox.publish('faults.thing', 'thing-' || n %% 12, 'faults.happened.v1',
                      jsonb_build_object('thing', 'thing-' || n %% 12))
FROM generate_series(1, %s) AS n
"""
# At these points nothing is in flight, or all that was sent is recorded: a kill repeats nothing.
REPEATS_NOTHING = {Failpoint.REPLAY_READ, Failpoint.REPLAY_KEPT}


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings with the shortest lease, since the next process waits for the dead one's lease."""
    return settings.model_copy(update={"lease_seconds": 1.0, "page_messages": PAGE})


@pytest.mark.parametrize("point", points("replay"))
async def test_a_replay_that_is_killed_there_goes_on_from_its_checkpoint(
    point: Failpoint, quick: Settings, witness: Witness, postgres: psycopg.AsyncConnection[Any]
) -> None:
    """O2: all is replayed in order, at most a batch twice; the live messages keep their order."""
    await postgres.execute(BEFORE, [MESSAGES])
    await relay_all(quick, postgres)
    replay = await record_replay(postgres)
    killer = Killer(point, quick)
    with reported(killer) as counted:
        async with running(Relay(quick)):
            async with writing(quick, pause_seconds=0.02):
                await kill_replays(killer, str(replay.id))
                ended = await run_replay(quick, postgres, await find(postgres, replay.id))
            verdict = await witness.saw_all()
        again = [each for each in await read_topic(quick, TOPIC) if each.is_replayed]
        counted["repeated"] = len(again) - MESSAGES
    assert verdict.at_least_once, verdict
    assert verdict.committed > MESSAGES, "there was no live traffic"
    assert (ended.status, ended.sent) == ("done", MESSAGES)
    in_order_but_for_deaths(again)
    assert len(again) - MESSAGES <= (0 if point in REPEATS_NOTHING else KILLS * PAGE)
    if point is Failpoint.REPLAY_ACKNOWLEDGED:
        assert len(again) - MESSAGES == KILLS * PAGE


async def kill_replays(killer: Killer, replay_id: str) -> None:
    """Kill the process at work; the next one already stands by, so that its start takes no time."""
    async with AsyncExitStack() as held:
        at_it = await held.enter_async_context(killer.victim("replay", replay_id))
        await at_it.ready()
        for _ in range(KILLS - 1):
            next_one = await held.enter_async_context(killer.victim("replay", replay_id))
            await killer.die(at_it)
            at_it = next_one
        await killer.die(at_it)  # no other process stands by: it would be killed at the point, too


def in_order_but_for_deaths(again: Sequence[Seen]) -> None:
    """Assert that every message came once or more.

    In a partition, positions may fall only where a new process began.
    """
    copies = Counter(each.envelope.position for each in again)
    assert len(copies) == MESSAGES
    lives: Counter[int] = Counter()
    for earlier, later in pairwise(again):
        if earlier.partition == later.partition:
            lives[later.partition] += _position(later) <= _position(earlier)
    assert max(lives.values()) <= KILLS
    first: dict[str, int] = {}
    for each in again:
        version, highest = each.envelope.sequence or 0, first.get(each.envelope.key, 0)
        assert version <= highest + 1, "a version was passed over"
        first[each.envelope.key] = max(version, highest)


def _position(seen: Seen) -> int:
    assert seen.envelope.position is not None
    return seen.envelope.position
