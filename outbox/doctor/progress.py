"""Checks of progress: whether a relay leads, how long messages wait, and what is parked."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row

from outbox.cursor.database_identity import REPAIR, DatabaseIdentity
from outbox.cursor.relay_row import require_relay_row
from outbox.doctor.diagnosis import Check, CheckResult, SeverityPolicy
from outbox.settings import Settings
from outbox.status import PENDING, RELAY, build_pending_parameters

IDENTITY = Check(
    "outbox-lineage",
    SeverityPolicy.FATAL,
    "the database has the history that the relay's cursor belongs to: after a restore or a failover"
    " a relay publishes nothing until an operator has agreed",
    REPAIR,
)
RELAYING = Check(
    "outbox-relay",
    SeverityPolicy.MILD,
    "a relay holds the lease: without one, messages wait",
    "python -m outbox relay",
)
BACKLOG = Check(
    "outbox-backlog",
    SeverityPolicy.GRAVE,
    "the oldest message that waits is younger than AFTERCOMMIT_DOCTOR_BACKLOG_SECONDS",
    "look at the relay's log, and at outbox-relay and the checks of kafka and topics here",
)
PARKED = Check(
    "outbox-parked-keys",
    SeverityPolicy.MILD,
    "no key waits for an operator: its messages are published once Kafka takes the refused one",
    'python -m outbox parked list, then release or discard --reason "..."',
)
CHECKS_OF_IDENTITY = (IDENTITY,)
CHECKS = (RELAYING, BACKLOG, PARKED)

READ = """
SELECT relay.owner, relay.term, coalesce(relay.expires_at > clock_timestamp(), false) AS leading,
       %(messages)s::bigint AS pending,
       coalesce(extract(epoch FROM clock_timestamp() - %(oldest)s::timestamptz), 0)
           ::double precision AS oldest_seconds,
       (SELECT count(*) FROM outbox.parked WHERE NOT released) AS parked_keys
FROM outbox.relay AS relay WHERE relay.name = 'main'
"""


@dataclass(frozen=True, slots=True)
class ProgressReading:
    """How far the relay is. `parked_keys` does not count those that an operator has released."""

    owner: str | None
    term: int
    leading: bool
    pending: int
    oldest_seconds: float
    parked_keys: int


async def read(connection: psycopg.AsyncConnection[Any]) -> ProgressReading:
    """Read all of it in one snapshot, so that nothing published meanwhile looks as if it waited.

    Raises LookupError where the relay has no row.
    """
    async with connection.transaction(force_rollback=True):
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(RELAY)
            relay = require_relay_row(await cursor.fetchone())
            await cursor.execute(PENDING.encode(), build_pending_parameters(relay))
            pending = await cursor.fetchone()
        async with connection.cursor(row_factory=class_row(ProgressReading)) as reading:
            await reading.execute(READ, pending)
            progress = await reading.fetchone()
    assert progress is not None  # noqa: S101 - it was there in the same snapshot
    return progress


def judge(progress: ProgressReading, settings: Settings) -> Iterator[CheckResult]:
    leads = f"{progress.owner} leads term {progress.term}" if progress.leading else "nobody leads"
    yield RELAYING.judge(settings, leads, fine=progress.leading)
    waiting = f"{progress.pending} messages wait, the oldest for {progress.oldest_seconds:.0f} s"
    yield BACKLOG.judge(
        settings,
        waiting if progress.pending else "nothing waits",
        fine=progress.oldest_seconds <= settings.doctor_backlog_seconds,
    )
    parked = progress.parked_keys
    yield PARKED.judge(settings, f"{parked} keys wait for an operator", fine=parked == 0)


def judge_database_identity(
    identity: DatabaseIdentity, settings: Settings
) -> Iterator[CheckResult]:
    changes = identity.describe_changes()
    yield IDENTITY.judge(settings, "; ".join(changes) or "it is the same", fine=not changes)
