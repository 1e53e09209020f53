"""Checks of the server: whether PostgreSQL keeps what it has committed, and has room to work."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import time
from typing import Any

import psycopg

from outbox.doctor.diagnosis import Check, CheckResult, SeverityPolicy, judge_each
from outbox.doctor.rows import read_row
from outbox.postgres.pooler import is_direct
from outbox.postgres.sql_file import read_statements
from outbox.settings import Settings

SQL = read_statements(__file__)

OLDEST, NEWEST = 14, 18
DURABLE = ("on", "remote_apply")

VERSION = Check(
    "postgres-version",
    SeverityPolicy.FATAL,
    f"PostgreSQL {OLDEST} to {NEWEST}, which the tests run on; a newer one is a warning",
    f"upgrade to PostgreSQL {OLDEST} to {NEWEST}",
)
PRIMARY = Check(
    "postgres-primary",
    SeverityPolicy.FATAL,
    "the primary: a standby takes no writes, so a relay cannot keep its progress there",
    "set POSTGRES_URL to the primary",
)
DIRECT = Check(
    "postgres-direct",
    SeverityPolicy.FATAL,
    "no pooler in between: a relay's settings would come out in the sessions of others; services"
    " may stand behind one",
    "set the relay's POSTGRES_URL to PostgreSQL itself",
)
ENCODING = Check(
    "postgres-encoding",
    SeverityPolicy.FATAL,
    "UTF8: other encodings cannot hold every message that the schemas allow",
    "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, and move the data there",
)
FSYNC = Check(
    "postgres-fsync",
    SeverityPolicy.GRAVE,
    "on: without it a power cut takes back what was committed, and may already be in Kafka",
    "ALTER SYSTEM SET fsync = on, then reload",
)
FULL_PAGE_WRITES = Check(
    "postgres-full-page-writes",
    SeverityPolicy.GRAVE,
    "on: without it a power cut can leave half-written pages that no recovery notices",
    "ALTER SYSTEM SET full_page_writes = on, then reload",
)
SYNCHRONOUS_COMMIT = Check(
    "postgres-synchronous-commit",
    SeverityPolicy.MILD,
    "on or remote_apply: units of work set it for themselves, but what else these roles write can"
    " be lost in a crash after it was acknowledged",
    "ALTER ROLE ... RESET synchronous_commit, or ALTER DATABASE ... RESET synchronous_commit",
)
AUTOVACUUM = Check(
    "postgres-autovacuum",
    SeverityPolicy.MILD,
    "autovacuum and track_counts on: the heads and the relay's row are updated all the time",
    "ALTER SYSTEM SET autovacuum = on (and track_counts = on), then reload",
)
CONNECTIONS = Check(
    "postgres-connections",
    SeverityPolicy.MILD,
    "room for one more service's pool (AFTERCOMMIT_POOL_CONNECTIONS): a relay that reconnects must"
    " find a place",
    "ALTER SYSTEM SET max_connections = ..., then restart; or smaller pools",
)
CLOCK = Check(
    "postgres-clock",
    SeverityPolicy.MILD,
    "the database's clock and this machine's agree within AFTERCOMMIT_DOCTOR_CLOCK_SECONDS: nothing"
    " is ordered by them, but ages and times in messages are misleading",
    "synchronise both machines by NTP",
)
SLOTS = Check(
    "postgres-replication-slots",
    SeverityPolicy.MILD,
    "no inactive slot that holds WAL: it fills the disk, and a full disk stops every writer",
    "SELECT pg_drop_replication_slot('...'), or set max_slot_wal_keep_size",
)
CHECKS = (
    VERSION, PRIMARY, DIRECT, ENCODING, FSYNC, FULL_PAGE_WRITES, SYNCHRONOUS_COMMIT, AUTOVACUUM,
    CONNECTIONS, CLOCK, SLOTS,
)  # fmt: skip

NOW = "SELECT extract(epoch FROM clock_timestamp())::double precision"


@dataclass(frozen=True, slots=True)
class ServerReading:
    """What a PostgreSQL says of itself.

    `commit_defaults` are pairs of whose default it is and its value, where synchronous_commit is
    set for a role or this database. `idle_slots` are pairs of a name and the bytes of WAL it holds.
    """

    version: int
    standby: bool
    encoding: str
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    commit_defaults: list[list[str]]
    autovacuum: str
    track_counts: str
    connections: int
    connected: int
    idle_slots: list[list[str]]
    slot_limit: str


@dataclass(frozen=True, slots=True)
class SessionReading:
    """What a server says, and what only a client can find out about the way to it.

    The database's clock is `ahead_seconds` ahead of ours, give or take `within_seconds`.
    """

    server: ServerReading
    direct: bool
    ahead_seconds: float
    within_seconds: float


async def read(
    connection: psycopg.AsyncConnection[Any], clock: Callable[[], float] = time
) -> SessionReading:
    """Read the server's state and compare its clock with `clock`, this machine's."""
    server = await read_row(connection, SQL["read"], ServerReading)
    before = clock()
    row = await (await connection.execute(NOW)).fetchone()
    after = clock()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    middle = (before + after) / 2
    return SessionReading(
        server, await is_direct(connection), row[0] - middle, (after - before) / 2
    )


def judge(session: SessionReading, settings: Settings) -> Iterator[CheckResult]:
    server = session.server
    yield judge_version(server)
    yield PRIMARY.judge(
        settings, "a standby" if server.standby else "the primary", fine=not server.standby
    )
    direct = "no pooler" if session.direct else "a pooler, or something that answers for the server"
    yield DIRECT.judge(settings, direct, fine=session.direct)
    yield ENCODING.judge(settings, server.encoding, fine=server.encoding == "UTF8")
    yield FSYNC.judge(settings, f"fsync = {server.fsync}", fine=server.fsync == "on")
    pages = f"full_page_writes = {server.full_page_writes}"
    yield FULL_PAGE_WRITES.judge(settings, pages, fine=server.full_page_writes == "on")
    yield from judge_synchronous_commit(server, settings)
    yield judge_autovacuum(server, settings)
    yield judge_connections(server, settings)
    yield judge_clock(session, settings)
    yield from judge_slots(server, settings)


def judge_version(server: ServerReading) -> CheckResult:
    found = f"PostgreSQL {server.version}"
    if server.version > NEWEST:
        return VERSION.warning(f"{found}, which nobody has tested yet")
    return VERSION.failure(found) if server.version < OLDEST else VERSION.ok(found)


def judge_synchronous_commit(server: ServerReading, settings: Settings) -> list[CheckResult]:
    here = f"synchronous_commit = {server.synchronous_commit}"
    found = [
        (whose, f"synchronous_commit = {value}")
        for whose, value in [["this session", server.synchronous_commit], *server.commit_defaults]
        if value not in DURABLE
    ]
    return judge_each(SYNCHRONOUS_COMMIT, settings, found, here)


def judge_autovacuum(server: ServerReading, settings: Settings) -> CheckResult:
    fine = server.autovacuum == server.track_counts == "on"
    found = f"autovacuum = {server.autovacuum}, track_counts = {server.track_counts}"
    return AUTOVACUUM.judge(settings, found, fine=fine)


def judge_connections(server: ServerReading, settings: Settings) -> CheckResult:
    free = server.connections - server.connected
    found = f"{free} of {server.connections} connections are free"
    return CONNECTIONS.judge(settings, found, fine=free >= settings.pool_connections)


def judge_clock(session: SessionReading, settings: Settings) -> CheckResult:
    """Judge the difference of the clocks, less what the time of the answer can explain."""
    apart = max(0.0, abs(session.ahead_seconds) - session.within_seconds)
    way = "ahead" if session.ahead_seconds > 0 else "behind"
    found = f"the database's clock is {abs(session.ahead_seconds):.3f} s {way}"
    return CLOCK.judge(settings, found, fine=apart <= settings.doctor_clock_seconds)


def judge_slots(server: ServerReading, settings: Settings) -> list[CheckResult]:
    limit = f"max_slot_wal_keep_size = {server.slot_limit}"
    found = [
        (name, f"inactive, holds {held} bytes of WAL ({limit})") for name, held in server.idle_slots
    ]
    return judge_each(SLOTS, settings, found, "no inactive slot holds WAL")
