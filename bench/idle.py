"""How much processor time does a relay need that has nothing to do?

`idle_cpu_percent` is the relay's process; `idle_backend_cpu_percent` is the PostgreSQL backend that
answers its polls. Both are percent of one core, over the same seconds.
"""

import asyncio

import psycopg

from bench.rig.figure import Figure
from bench.rig.rig import Rig, fresh
from bench.rig.role_process import RoleProcess, cpu_seconds

WARM_UP_SECONDS = 2.0
BACKEND = "SELECT pid FROM pg_stat_activity WHERE application_name = 'aftercommit relay'"


async def ask(rig: Rig) -> list[Figure]:
    """Measure the processor time at rest."""
    seconds = rig.effort.idle_seconds
    async with fresh(rig) as own, RoleProcess(own.settings) as relay:
        pids = [relay.pid, await _find_backend(own.settings.libpq_url())]
        await asyncio.sleep(WARM_UP_SECONDS)
        before = [cpu_seconds(pid) for pid in pids]
        await asyncio.sleep(seconds)
        used = [cpu_seconds(pid) - was for pid, was in zip(pids, before, strict=True)]
    process, backend = (100 * each / seconds for each in used)
    return [
        Figure("idle_cpu_percent", process, "%", "at most 1 % of a core"),
        Figure("idle_backend_cpu_percent", backend, "%", "PostgreSQL's side of the polls"),
    ]


async def _find_backend(url: str) -> int:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        row = await (await connection.execute(BACKEND)).fetchone()
    assert row is not None  # noqa: S101 - the relay leads, so it is connected
    return int(row[0])
