"""Checks of transactions: which have written and do not end.

They delay no other key's messages. But their own messages wait, so does whoever needs a row that
they have locked, and VACUUM removes nothing that they may still see.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from outbox.doctor.diagnosis import Check, CheckResult, SeverityPolicy, judge_each
from outbox.doctor.rows import read_rows
from outbox.settings import Settings

OPEN = Check(
    "postgres-open-transactions",
    SeverityPolicy.MILD,
    "no transaction has written and stayed open for AFTERCOMMIT_DOCTOR_TRANSACTION_SECONDS: it"
    " holds its locks, and keeps VACUUM from what it may still see",
    "SELECT pg_terminate_backend(<pid>), after a look at what it is",
)
PREPARED = Check(
    "postgres-prepared-transactions",
    SeverityPolicy.MILD,
    "no prepared transaction is older than AFTERCOMMIT_DOCTOR_TRANSACTION_SECONDS: nobody's session"
    " shows it, and it survives restarts with its locks",
    "COMMIT PREPARED '<gid>' or ROLLBACK PREPARED '<gid>', whichever its owner meant",
)
CHECKS = (OPEN, PREPARED)

# A transaction has an id from its first write on. The query is never read: it may hold secrets. A
# role without pg_read_all_stats sees the sessions of others without their transactions.
READ_OPEN = """
SELECT pid, coalesce(datname, '') AS database, coalesce(application_name, '') AS application,
       extract(epoch FROM clock_timestamp() - xact_start)::double precision AS seconds
FROM pg_stat_activity
WHERE backend_xid IS NOT NULL AND xact_start IS NOT NULL
ORDER BY xact_start LIMIT 20
"""
READ_PREPARED = """
SELECT gid, database, owner,
       extract(epoch FROM clock_timestamp() - prepared)::double precision AS seconds
FROM pg_prepared_xacts
ORDER BY prepared LIMIT 20
"""
MAY_SEE_ALL = "SELECT pg_has_role('pg_read_all_stats', 'USAGE')"


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A session whose transaction has written."""

    pid: int
    database: str
    application: str
    seconds: float

    def describe(self) -> str:
        return f"open for {self.seconds:.0f} s, {self.application!r} in {self.database}"


@dataclass(frozen=True, slots=True)
class PreparedTransaction:
    """A transaction that waits for its COMMIT PREPARED."""

    gid: str
    database: str
    owner: str
    seconds: float

    def describe(self) -> str:
        return f"prepared {self.seconds:.0f} s ago by {self.owner} in {self.database}"


@dataclass(frozen=True, slots=True)
class Transactions:
    """The transactions of all databases of the server: the oldest first, at most 20 of each kind.

    `sees_all` is false where this role may not see those of other roles.
    """

    sees_all: bool
    open: list[OpenTransaction]
    prepared: list[PreparedTransaction]


async def read(connection: psycopg.AsyncConnection[Any]) -> Transactions:
    """Read the open and the prepared transactions, and whether this role may see all of them."""
    row = await (await connection.execute(MAY_SEE_ALL)).fetchone()
    opened = await read_rows(connection, READ_OPEN, OpenTransaction)
    prepared = await read_rows(connection, READ_PREPARED, PreparedTransaction)
    return Transactions(bool(row and row[0]), opened, prepared)


def judge(transactions: Transactions, settings: Settings) -> Iterator[CheckResult]:
    limit = settings.doctor_transaction_seconds
    old = [(f"pid {o.pid}", o.describe()) for o in transactions.open if o.seconds > limit]
    if transactions.sees_all or old:
        yield from judge_each(OPEN, settings, old, f"none for {limit:g} s")
    if not transactions.sees_all:
        yield OPEN.warning("not answered for the sessions of other roles: GRANT pg_monitor TO us")
    orphans = [(p.gid, p.describe()) for p in transactions.prepared if p.seconds > limit]
    yield from judge_each(PREPARED, settings, orphans, f"none for {limit:g} s")
