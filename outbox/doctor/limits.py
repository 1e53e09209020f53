"""Checks of limits: what keeps a transaction from ending, or ends it early.

A COMMIT waits for its synchronous standbys for as long as they are away, and a role's timeouts end
what waits for others. Units of work try again after both, as they do while a server is down.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from outbox.doctor.diagnosis import Check, CheckResult, SeverityPolicy, judge_each
from outbox.doctor.rows import read_row
from outbox.settings import Settings

STANDBYS = Check(
    "postgres-synchronous-standbys",
    SeverityPolicy.FATAL,
    "as many synchronous standbys answer as synchronous_standby_names asks for: no COMMIT comes to"
    " an end without them, so services answer 503 and commands wait",
    "start the standby; or ALTER SYSTEM SET synchronous_standby_names = '...' without it, then"
    " reload",
)
TIMEOUTS = Check(
    "postgres-timeouts",
    SeverityPolicy.MILD,
    "no timeout of this role or database is shorter than AFTERCOMMIT_DOCTOR_SHORT_SECONDS: what"
    " waits for another's lock is cut short, answered with 503, and done again",
    "ALTER ROLE ... RESET statement_timeout (or the other one), or ALTER DATABASE ... RESET",
)
CHECKS = (STANDBYS, TIMEOUTS)

# A role without pg_read_all_stats sees that there are standbys, not whether they are synchronous.
READ = """
SELECT current_setting('synchronous_standby_names') AS names,
       pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all,
       (SELECT count(*) FROM pg_stat_replication
        WHERE sync_state IN ('sync', 'quorum') AND state = 'streaming') AS answering,
       (SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep') AS waiting,
       ARRAY(SELECT ARRAY[name, setting] FROM pg_settings
             WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout',
                            'idle_in_transaction_session_timeout')
             ORDER BY name) AS timeouts
"""
NUMBER = re.compile(r"\s*(?:FIRST|ANY)?\s*(\d+)\s*\(", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The server's standbys and this role's timeouts.

    `answering` standbys are synchronous and streaming; `waiting` sessions have a COMMIT that waits
    for one. `timeouts` are pairs of a name and milliseconds, 0 for none.
    """

    names: str
    sees_all: bool
    answering: int
    waiting: int
    timeouts: list[list[str]]


async def read(connection: psycopg.AsyncConnection[Any]) -> ServerLimits:
    return await read_row(connection, READ, ServerLimits)


def judge(limits: ServerLimits, settings: Settings) -> Iterator[CheckResult]:
    yield judge_standbys(limits, settings)
    shortest = settings.doctor_short_seconds * 1000
    short = [(name, f"{value} ms") for name, value in limits.timeouts if 0 < int(value) < shortest]
    yield from judge_each(
        TIMEOUTS, settings, short, f"none below {settings.doctor_short_seconds:g} s"
    )


def judge_standbys(limits: ServerLimits, settings: Settings) -> CheckResult:
    if not limits.names.strip():
        return STANDBYS.ok("none is waited for")
    numbered = NUMBER.match(limits.names)
    needed = int(numbered[1]) if numbered else 1
    if not limits.sees_all and not limits.waiting:
        return STANDBYS.warning("not answered for other roles: GRANT pg_monitor TO us")
    found = f"{limits.answering} of {needed} answer, {limits.waiting} commits wait"
    found += f" (synchronous_standby_names = '{limits.names}')"
    return STANDBYS.judge(settings, found, fine=limits.answering >= needed)
