"""How soon does another relay publish when the leading one is killed?

Two relays run, with a lease of LEASE_SECONDS. The leader is ended by SIGKILL, which releases
nothing, and an event is committed. `takeover_seconds` is the time from the kill to the moment when
PostgreSQL shows the event as acknowledged, the slowest of some rounds. It is held against the lease
and two seconds. `takeover_ratio` is the same time in leases.
"""

import asyncio
from contextlib import AsyncExitStack
from time import perf_counter

import psycopg

from bench.rig.figure import Figure
from bench.rig.rig import Rig, fresh
from bench.rig.role_process import RoleProcess, wait_until_drained
from outbox.settings import Settings

LEASE_SECONDS = 2.0
ENVIRONMENT = {
    "AFTERCOMMIT_LEASE_SECONDS": str(LEASE_SECONDS),
    "AFTERCOMMIT_PRUNE_CHECK_SECONDS": "0",  # or the leader's second session looks like a standby
}
CONNECTED_SECONDS = 60.0
PUBLISH = "SELECT outbox.publish('bench.sample', 'k', 'bench.happened.v1', '{}')"
RELAYS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'aftercommit relay' AND datname = current_database()
"""


async def ask(rig: Rig) -> list[Figure]:
    """Kill the leading relay, again and again, and measure each takeover."""
    async with fresh(rig) as own:
        slowest = max([await _measure(own.settings) for _ in range(rig.effort.takeovers)])
    against = f"lease of {LEASE_SECONDS:g} s; at most that and 2 s"
    return [
        Figure("takeover_seconds", slowest, "s", against),
        Figure("takeover_ratio", slowest / LEASE_SECONDS, "", "in leases"),
    ]


async def _measure(settings: Settings) -> float:
    """Return the seconds from a leader's kill, with a standby beside it, to the next event."""
    connecting = psycopg.AsyncConnection.connect(settings.libpq_url(), autocommit=True)
    async with AsyncExitStack() as ends, await connecting as connection:
        leader = RoleProcess(settings, environment=ENVIRONMENT)
        standby = RoleProcess(settings, environment=ENVIRONMENT, ready=None)
        await ends.enter_async_context(leader)
        await ends.enter_async_context(standby)
        await _wait_until_both_connected(connection)
        await connection.execute(PUBLISH)
        await wait_until_drained(settings)
        await leader.kill()
        killed = perf_counter()
        await connection.execute(PUBLISH)
        await wait_until_drained(settings)
        return perf_counter() - killed


async def _wait_until_both_connected(connection: psycopg.AsyncConnection) -> None:
    async with asyncio.timeout(CONNECTED_SECONDS):
        while (await (await connection.execute(RELAYS)).fetchone() or (0,))[0] < 2:  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.02)
