"""A consumer group of several members: rebalances and pauses.

It runs on real Kafka only, because the mock broker knows only groups of one member.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import pytest
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.runtime.failpoints import Failpoint
from tests.kit.consumers.effects import Effects, verdict
from tests.kit.consumers.groups import (
    OPTIONS,
    WITHIN_SECONDS,
    Connection,
    Held,
    committed,
    send,
    settled,
)
from tests.kit.load.kills import KILLS, SEED, Killer, reported
from tests.kit.load.length import seconds
from tests.kit.load.role import Role
from tests.kit.load.roles import running
from tests.kit.load.stream import Stream, event
from tests.kit.verdicts.history import TOPIC
from tests.kit.verdicts.watch import Watch
from tests.kit.waiting import until

# mypy: disable-error-code="attr-defined"
# (confluent_kafka re-exports the names of its admin client without saying so)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("real_kafka"),
]

STORM_SECONDS = seconds(15, 300)
MEMBERS = 6


async def test_a_rebalance_waits_for_what_runs_and_commits_it_first(
    member: Settings, tables: Connection
) -> None:
    """C5: the second member joins in the middle of an effect, which happens only once."""
    sent = [event(f"key{number}", 1) for number in range(8)]
    first, second = Held(member, "slow"), Held(member, "slow")
    second.go.set()
    patient = member.model_copy(update={"rebalance_timeout_milliseconds": 40_000})
    async with running(Runner(patient, first)):
        await send(member, *sent)
        await until(lambda: first.holds(8), WITHIN_SECONDS)
        async with running(Runner(patient, second)):
            await until(lambda: rebalances(member, "slow"), WITHIN_SECONDS)
            first.go.set()
            await settled(tables, "slow", sent)
            await until(lambda: committed(member, "slow"), WITHIN_SECONDS)
    assert sorted(first.ended + second.ended) == sorted(each.id for each in sent)
    await first.close()
    await second.close()


async def rebalances(settings: Settings, name: str) -> bool:
    """Whether the group waits for its members to give their partitions back."""
    admin, group = AdminClient({"bootstrap.servers": settings.kafka_url}), f"aftercommit.{name}"
    described = admin.describe_consumer_groups([group])[group].result(20)
    return bool(described.state == ConsumerGroupState.PREPARING_REBALANCING)


async def test_a_rebalance_gives_up_what_takes_too_long_and_its_late_end_is_harmless(
    member: Settings, tables: Connection
) -> None:
    """C5, I9: nothing of it is committed; the member that has the partition now does it."""
    sent = [event(f"key{number}", 1) for number in range(8)]
    first, second = Held(member, "stuck"), Held(member, "stuck")
    async with Watch.over(member, "stuck") as watch, AsyncExitStack() as stack:
        await stack.enter_async_context(running(Runner(member, first)))
        await send(member, *sent)
        await until(lambda: first.holds(8), WITHIN_SECONDS)
        await stack.enter_async_context(running(Runner(member, second)))
        await until(second.holds, WITHIN_SECONDS)
        assert not await committed(member, "stuck")
        second.go.set()
        first.go.set()
        await settled(tables, "stuck", sent)
        await until(lambda: committed(member, "stuck"), WITHIN_SECONDS)
    assert await watch.ahead() == []
    assert second.ended, "it has some of the partitions"
    await first.close()
    await second.close()


@pytest.mark.slow
async def test_six_members_that_join_and_leave_all_the_time_do_each_message_once(
    member: Settings, tables: Connection
) -> None:
    """C6, I6, I7, I9: some members leave in order, some are killed."""
    async with AsyncExitStack() as stack, Watch.over(member, "storm") as watch:
        roles = [Role("reactor", member, "storm", OPTIONS, "3000") for _ in range(MEMBERS)]
        for role in roles:
            stack.push_async_exit(role)
            await role.start()
        async with Stream(member, 0.1) as stream:
            for role in roles:
                await role.ready()
            await weather(roles, has_news(tables, "storm", stream))
        for role in roles:
            if not role.running:
                await role.start()
        await settled(tables, "storm", stream.sent)
        await until(lambda: committed(member, "storm"), WITHIN_SECONDS)
    assert await watch.ahead() == []


async def weather(roles: Sequence[Role], progress: Callable[[], Awaitable[bool]]) -> None:
    """Let one join, leave or die about every two seconds, until there was progress too."""
    loop, rng = asyncio.get_running_loop(), random.Random(SEED)
    enough, late = loop.time() + STORM_SECONDS, loop.time() + STORM_SECONDS + WITHIN_SECONDS
    while loop.time() < enough or not await progress():
        assert loop.time() < late, "no progress"
        await asyncio.sleep(rng.uniform(1.5, 2.5))
        role = rng.choice(roles)
        if not role.running:
            await role.start()
        elif rng.random() < 0.3:
            await role.kill()
        else:
            await role.terminate()


@pytest.mark.slow
async def test_a_member_that_stood_still_past_its_session_does_no_harm_when_it_goes_on(
    member: Settings, tables: Connection
) -> None:
    """C7, I6, I7, I9: a member is stopped in the middle of an effect, and goes on when others have
    its partitions and have done everything that it had in flight."""
    stopped = member.model_copy(update={"failpoints": f"{Failpoint.EFFECT_SENT}=stop@3"})
    arguments = ("zombie", json.dumps({"batch": 1, "refuses": False}), "3000")
    async with AsyncExitStack() as stack:
        watch = await stack.enter_async_context(Watch.over(member, "zombie"))
        zombie = await stack.enter_async_context(Role("reactor", stopped, *arguments))
        await zombie.ready()
        stream = await stack.enter_async_context(Stream(member, 0.1))
        await until(zombie.paused, WITHIN_SECONDS)
        await stack.enter_async_context(Role("reactor", member, *arguments))
        await until(has_news(tables, "zombie", stream), WITHIN_SECONDS)
        zombie.resume()
        await until(has_logged(zombie, "assigned", 2), WITHIN_SECONDS)
        await stream.stop()
        await settled(tables, "zombie", stream.sent)
        await until(lambda: committed(member, "zombie"), WITHIN_SECONDS)
    assert await watch.ahead() == []


@pytest.mark.slow
async def test_a_member_that_is_killed_while_it_gives_its_partitions_back_loses_nothing(
    member: Settings, tables: Connection
) -> None:
    """C1, C5, I6, I9: each member that joins makes the one before it revoke, which kills it."""
    killer = Killer(Failpoint.REVOKING, member)
    async with AsyncExitStack() as stack, Watch.over(member, "revoked") as watch:
        stream = await stack.enter_async_context(Stream(member, 0.2))
        before: Role | None = None
        with reported(killer):
            while killer.kills < KILLS:
                role = killer.victim("reactor", "revoked", OPTIONS, "3000")
                await stack.enter_async_context(role)
                if before is not None:
                    await killer.die(before)
                await role.ready()
                before = role
        assert before is not None
        await before.kill()
        await stream.stop()
        effects = Effects(member.libpq_url(), "revoked", TOPIC, refuses=False)
        stack.push_async_callback(effects.close)
        async with running(Runner(member, effects)):
            await settled(tables, "revoked", stream.sent)
    assert await watch.ahead() == []


def has_news(connection: Connection, name: str, stream: Stream) -> Callable[[], Awaitable[bool]]:
    """A check whether a message that is sent from now on is done."""
    before = len(stream.sent)

    async def news() -> bool:
        later = stream.sent[before:]
        return bool(later) and len((await verdict(connection, name, later)).lost) < len(later)

    return news


def has_logged(role: Role, what: str, times: int) -> Callable[[], Awaitable[bool]]:
    async def enough() -> bool:
        return len(role.events(what)) >= times

    return enough
