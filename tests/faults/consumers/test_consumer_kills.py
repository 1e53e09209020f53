"""`kill -9` at each failpoint of a consumer, six times each; C1, M4, G1, I6-I10, I12.

All failpoints are tested at once, each with a consumer group of its own over the same topic,
because most of such a test is waiting for the session of the dead member to end.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import psycopg
import pytest

from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.runtime.failpoints import Failpoint
from outbox.write.database import Database
from schemas.envelope import Envelope
from tests.kit.consumers.effects import TABLES, Effects, Verdict, verdict
from tests.kit.load.commander import Orders
from tests.kit.load.kills import KILLS, Killer, reported
from tests.kit.load.roles import running
from tests.kit.load.stream import Stream
from tests.kit.load.writer import TABLE
from tests.kit.verdicts.history import TOPIC
from tests.kit.verdicts.watch import Watch
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(900)]

SESSION = "3500"  # milliseconds; the mock broker lets a group wait for 3 s before it begins
PAUSE_SECONDS = 0.5  # with a backlog, the killed ones would do nothing of it
# The consumers that finish the work share one process, on a machine that may be busy.
PATIENT = {"session_timeout_milliseconds": 10_000, "rebalance_timeout_milliseconds": 10_000}
SETTLED_SECONDS = 240.0
Connection = psycopg.AsyncConnection[Any]

REJECTING = {Failpoint.LETTER_WRITTEN, Failpoint.KEY_PARKED}
OF_PROJECTIONS = [
    Failpoint.RECORDS_RECEIVED,
    Failpoint.EFFECT_SENT,
    Failpoint.EFFECT_DONE,
    Failpoint.OFFSET_SENT,
    *REJECTING,
]
# The points of a command, in their order (cmd-1 to cmd-5): it is received, its receipt is written,
# before COMMIT, COMMIT is sent, and it is done before its offset is committed.
OF_COMMANDS = [
    Failpoint.RECORDS_RECEIVED,
    Failpoint.BEFORE_DOMAIN_WRITE,
    Failpoint.BEFORE_COMMIT,
    Failpoint.COMMIT_SENT,
    Failpoint.EFFECT_DONE,
]


@pytest.fixture
async def tables(postgres: Connection) -> Connection:
    await postgres.execute(TABLES.encode())
    await postgres.execute(TABLE.encode())
    return postgres


async def killed(killer: Killer, role: str, *arguments: str) -> None:
    with reported(killer):
        while killer.kills < KILLS:
            async with killer.victim(role, *arguments) as victim:
                await killer.die(victim)


async def test_a_consumer_that_is_killed_there_has_done_each_message_once(
    settings: Settings, tables: Connection
) -> None:
    """C1, I6, I7, I9, I12: it dies before, in and after an effect, a letter or a commit."""
    consumers = {point: f"killed-{point}" for point in OF_PROJECTIONS}
    async with Watch.over(settings, consumers[Failpoint.EFFECT_DONE]) as watch:
        async with Stream(settings, PAUSE_SECONDS, bad=True) as stream, asyncio.TaskGroup() as all_:
            for point, name in consumers.items():
                options = f'{{"refuses": true, "batch": {1 if point in REJECTING else 20}}}'
                killer = Killer(point, settings)
                all_.create_task(killed(killer, "reactor", name, options, SESSION))
        patient = settings.model_copy(update=PATIENT)
        async with AsyncExitStack() as stack:
            for name in consumers.values():
                effects = Effects(settings.libpq_url(), name, TOPIC, batch=50, refuses=True)
                stack.push_async_callback(effects.close)
                await stack.enter_async_context(running(Runner(patient, effects)))
            for name in consumers.values():
                await settled(tables, name, stream.sent)
    assert await watch.ahead() == []
    assert len(watch.looks) > KILLS


async def settled(connection: Connection, name: str, sent: Sequence[Envelope]) -> None:
    """Wait until everything is done, and nothing twice."""
    last: list[Verdict] = []

    async def right() -> bool:
        last[:] = [await verdict(connection, name, sent)]
        assert not last[0].doubled, f"{name}: {last[0]}"
        return last[0].right

    try:
        await until(right, SETTLED_SECONDS, 0.5)
    except TimeoutError:
        raise AssertionError(f"{name}: {last[0]}") from None


CHANGES = """
SELECT (SELECT sum(n) FROM things WHERE id LIKE %(name)s || '/%%'),
       (SELECT count(*) FROM outbox.messages WHERE aggregateid LIKE %(name)s || '/%%'),
       (SELECT count(*) FROM outbox.receipts WHERE consumer = %(name)s)
"""


async def test_a_command_whose_consumer_is_killed_there_is_done_once(
    settings: Settings, tables: Connection
) -> None:
    """C1, M3, M4, I1, I10: one change, event and receipt a command, whenever its consumer dies;
    also between its receipt and the commit."""
    consumers = {point: f"commanded-{point}" for point in OF_COMMANDS}
    async with Stream(settings, PAUSE_SECONDS) as stream, asyncio.TaskGroup() as all_:
        for point, name in consumers.items():
            all_.create_task(killed(Killer(point, settings), "commander", name, SESSION))
    for name in consumers.values():
        await repeat_and_end(settings, name, partial(changed, tables, name, len(stream.sent)))


async def repeat_and_end(
    settings: Settings, name: str, ended: Callable[[], Awaitable[bool]]
) -> None:
    async with Database(settings, name) as database:
        role = Runner(settings.model_copy(update=PATIENT), Orders(name, database))
        async with running(role):
            await until(ended, SETTLED_SECONDS)


async def changed(connection: Connection, name: str, commands: int) -> bool:
    row = await (await connection.execute(CHANGES, {"name": name})).fetchone()
    assert row is not None
    assert row[0] is None or row[0] == row[1] == row[2] <= commands, row
    return int(row[2]) == commands
