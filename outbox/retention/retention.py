"""Retention: drops old daily partitions once they are published and the latest messages kept.

For each day past retention, the oldest first: look, and leave it alone where a message is not
published; copy each message that is its key's latest to outbox.compacted, without a lock; then, in
one bounded transaction, lock everybody out, look again, and drop. Rows of the default partition are
deleted one by one. Each step may be repeated, also by two processes at the same time: only the
tables themselves remember how far a prune came.

Why the drop is safe. The lock is granted when no transaction that touched the day is open, and no
transaction can touch the day before the drop is committed. The statements after the lock have
snapshots of their own, so they see all that was ever written there. They require that the relay's
cursor shows all of it: each message is acknowledged, parked or discarded, and a parked one was
recorded in the transaction that moved the cursor past it. They also require that the snapshot which
`compact` began with shows all of it, so nothing is newer than the copies.

Weaknesses: a day is dropped whole or not at all, so one parked message keeps all of it. A reader of
outbox.messages that takes hours (a dump), or an orphaned prepared transaction, delays drops. Where
another program publishes (Debezium), no cursor moves, and nothing is ever dropped.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import psycopg
import structlog
from psycopg.sql import SQL

from outbox.cursor.cut import HIGHEST, Snapshot
from outbox.cursor.database_identity import read_identity
from outbox.cursor.progress import read_progress
from outbox.errors import DependencyDown
from outbox.operations import Operation
from outbox.postgres.transactions import bounded_transaction, planned_transaction
from outbox.retention.compaction import Chunk, compact, delete_compacted, read_chunks
from outbox.retention.day_partitions import (
    DEFAULT_PARTITION,
    DayPartition,
    count_parked,
    has_hidden_messages,
    read_days,
    read_horizon,
)
from outbox.retention.default_partition import count_default_rows, delete_default_rows
from outbox.retention.outcome import DayOutcome, PruneResult
from outbox.runtime.failpoints import Failpoint, failpoint
from outbox.settings import Settings

log = structlog.get_logger()

# Finds a session that has used these tables in a transaction which is open for longer than we would
# wait. Then we do not ask for the lock, so that nobody has to queue behind a request that would
# fail. A holder without a process is a prepared transaction.
HOLDERS = """
SELECT holder.pid, extract(epoch FROM clock_timestamp() - activity.xact_start)::bigint
FROM pg_locks AS holder LEFT JOIN pg_stat_activity AS activity USING (pid)
WHERE holder.locktype = 'relation' AND holder.granted
  AND holder.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND holder.relation = ANY (%(tables)s::text[]::regclass[])
  AND holder.pid IS DISTINCT FROM pg_backend_pid()
  AND (holder.pid IS NULL
       OR activity.xact_start < clock_timestamp() - make_interval(secs => %(seconds)s))
LIMIT 1
"""
# In the order in which writers and readers lock them. With ONLY, the other days stay usable. The
# default partition is locked by the drop anyway, because the drop changes which rows belong there.
LOCK = SQL("""
LOCK TABLE ONLY outbox.messages, ONLY outbox.messages_default, ONLY {day} IN ACCESS EXCLUSIVE MODE
""")
DROP = SQL("DROP TABLE {day}")
# Errors that other sessions may cause meanwhile; the drop is tried again at the next prune.
BUSY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
)

# Ids rise with time, so the primary key gives the oldest rows first; one more index would slow the
# relay down.
DELETE_DELIVERIES = """
DELETE FROM outbox.deliveries
WHERE id IN (SELECT id FROM outbox.deliveries ORDER BY id LIMIT %(rows)s)
  AND delivered_at < %(before)s
"""
# An id that a caller gave is remembered at least for as long as the day of its message is there.
DELETE_IDS = """
DELETE FROM outbox.message_ids
WHERE id IN (SELECT id FROM outbox.message_ids WHERE created_at < %(before)s
             ORDER BY created_at LIMIT %(rows)s)
"""


class Retention:
    """Prunes over one connection in autocommit.

    `operation` is recorded for each day, in the transaction that drops it, and for each chunk of
    rows deleted from the default partition. `today` stands in for the database's date.
    `on_progress` is called with a text at each step.
    """

    def __init__(
        self,
        connection: psycopg.AsyncConnection[Any],
        settings: Settings,
        operation: Operation | None = None,
        today: date | None = None,
        on_progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._days = settings.retention_days
        self._limit = settings.prune_lock_timeout_milliseconds
        self._rows = settings.prune_chunk_messages
        self._operation = operation
        self._today = today
        self._report = on_progress
        if not settings.prepared_statements:
            connection.prepare_threshold = None

    async def preview(self) -> PruneResult:
        """Return what a prune would drop now, and why not the rest; it changes nothing.

        `late` then counts all rows of the default partition that are past retention.
        """
        horizon = await read_horizon(self._connection, self._days, self._today)
        pruned = PruneResult()
        for day in await self._read_due_days(horizon):
            why_not = await self._find_obstacle_or_holder(day)
            pruned.days.append(DayOutcome(str(day), why_not, day.first))
        pruned.late, _ = await count_default_rows(self._connection, Chunk(0, HIGHEST), horizon)
        return pruned

    async def prune(self) -> PruneResult:
        """Drop and delete what is past retention; the result says why anything of it stays.

        DependencyDown on a standby; psycopg.Error where the connection is lost. After a kill at any
        statement it may be run again. A step that fails is in the result too, and the other steps
        are done all the same.
        """
        if self._operation is not None:
            self._operation.require_reason()
        horizon = await read_horizon(self._connection, self._days, self._today)
        pruned = PruneResult()
        for day in await self._read_due_days(horizon):
            pruned.days += await self._run_step(str(day), self._prune_day(day), day.first)
        pruned.days += await self._delete_default_rows(horizon, pruned)
        if await self._find_halt() is None:
            pruned.days += await self._run_step("kept", self._delete_compacted(pruned))
            deliveries = self._delete_deliveries(horizon, pruned)
            pruned.days += await self._run_step("deliveries", deliveries)
        return pruned

    async def _run_step(
        self, what: str, work: Awaitable[list[DayOutcome]], since: datetime | None = None
    ) -> list[DayOutcome]:
        """Return what the step did, or PostgreSQL's error; raise that of a lost connection."""
        try:
            return await work
        except psycopg.Error as error:
            if self._connection.closed:
                raise
            return [DayOutcome(what, f"failed: {str(error).splitlines()[0]}", since)]

    async def _read_due_days(self, horizon: datetime) -> list[DayPartition]:
        return [day for day in await read_days(self._connection) if day.due(horizon)]

    async def _prune_day(self, day: DayPartition) -> list[DayOutcome]:
        """Return one outcome, or none where another session has dropped the day meanwhile."""
        try:
            why = await self._find_obstacle_or_holder(day)
            if why is None:
                self._report(f"{day}: keeping the latest messages")
                seen, kept = await compact(self._connection, day, None, self._rows)
                self._report(f"{day}: dropping")
                why = await self._drop(day, seen, kept)
        except psycopg.errors.UndefinedTable:
            return []
        return [DayOutcome(str(day), why, day.first)]

    async def _find_obstacle_or_holder(self, day: DayPartition) -> str | None:
        """Return what would prevent the drop now, without taking a lock."""
        async with planned_transaction(self._connection):
            return await self._find_obstacle(day) or await self._find_lock_holder(day)

    async def _drop(self, day: DayPartition, seen: Snapshot, kept: int) -> str | None:
        """Drop the day, or return why not; `seen` is the snapshot that `compact` returned."""
        try:
            async with bounded_transaction(self._connection, self._limit):
                await self._connection.execute(LOCK.format(day=day.table))
                why = await self._find_obstacle(day)
                if why is None and await has_hidden_messages(self._connection, day, seen):
                    why = "written: it has messages that were not there when the latest were kept"
                if why is None:
                    await self._record(str(day), kept=kept)
                    await self._connection.execute(DROP.format(day=day.table))
        except BUSY as error:
            return f"locked: {str(error).splitlines()[0]} ({self._limit} ms)"
        if why is None:
            failpoint(Failpoint.PARTITION_DROPPED)
            log.info("partition dropped", day=str(day), kept=kept)
        return why

    async def _find_obstacle(self, day: DayPartition) -> str | None:
        """Return why the day must stay. The cursor is read first: what it shows stays published."""
        if halted := await self._find_halt():
            return halted
        if await has_hidden_messages(
            self._connection, day, (await read_progress(self._connection)).cursor
        ):
            return "unpublished: the relay's cursor does not show all of it"
        if parked := await count_parked(self._connection, day):
            return f"parked: {parked} messages wait behind one that Kafka refused"
        return None

    async def _find_halt(self) -> str | None:
        """Return why a relay would halt here, or None; DependencyDown on a standby."""
        identity = await read_identity(self._connection)
        if identity.standby:
            raise DependencyDown("postgres", "this server is a standby, which takes no writes")
        if why := identity.explain_halt():
            return f"halted: {why}"
        return None if identity.recorded else "halted: no relay has published from here yet"

    async def _find_lock_holder(self, day: DayPartition) -> str | None:
        """Return who has used the tables for longer than a drop would wait, or None."""
        tables = ["outbox.messages", "outbox.messages_default", f"outbox.{day.name}"]
        parameters = {"tables": tables, "seconds": self._limit / 1000}
        found = await (await self._connection.execute(HOLDERS, parameters)).fetchone()
        if found is None:
            return None
        pid, seconds = found
        who = f"process {pid}, for {seconds} s" if pid else "a prepared transaction"
        return f"locked: in use by {who}"

    async def _delete_default_rows(
        self, horizon: datetime, pruned: PruneResult
    ) -> list[DayOutcome]:
        """Delete old rows, and count those left, deletable or not; one outcome if there are any."""
        self._report("deleting old rows of the default partition")
        failed = await self._run_step(str(DEFAULT_PARTITION), self._delete_chunks(horizon, pruned))
        left, since = 0, horizon
        async for chunk in read_chunks(self._connection, DEFAULT_PARTITION, self._rows):
            async with planned_transaction(self._connection):
                count, first = await count_default_rows(self._connection, chunk, horizon)
            left, since = left + count, min(since, first or horizon)
        why = f"late: {left} messages are unpublished or parked, or a relay halts here"
        if failed:
            return [replace(failed[0], since=since)]
        return [DayOutcome(str(DEFAULT_PARTITION), why, since)] if left else []

    async def _delete_chunks(self, horizon: datetime, pruned: PruneResult) -> list[DayOutcome]:
        if await self._find_halt() is None:
            await compact(self._connection, DEFAULT_PARTITION, horizon, self._rows)
        async for chunk in read_chunks(self._connection, DEFAULT_PARTITION, self._rows):
            async with planned_transaction(self._connection):
                pruned.late += await self._delete_chunk(chunk, horizon)
        return []

    async def _delete_chunk(self, chunk: Chunk, horizon: datetime) -> int:
        if await self._find_halt():
            return 0
        cursor = (await read_progress(self._connection)).cursor
        deleted = await delete_default_rows(self._connection, chunk, horizon, cursor)
        if deleted:
            await self._record(str(DEFAULT_PARTITION), messages=deleted, before=horizon.isoformat())
        return deleted

    async def _delete_compacted(self, pruned: PruneResult) -> list[DayOutcome]:
        """Delete each copy that is no longer its key's latest message."""
        self._report("deleting copies that are no longer the latest message")
        pruned.kept = await delete_compacted(self._connection, self._rows)
        return []

    async def _delete_deliveries(self, horizon: datetime, pruned: PruneResult) -> list[DayOutcome]:
        """Delete old deliveries, and ids that callers gave, once no message needs them."""
        left = [outcome.since for outcome in pruned.days if outcome.why_not and outcome.since]
        before = min([horizon, *left])
        pruned.deliveries = await self._delete_before(before, DELETE_DELIVERIES)
        pruned.ids = await self._delete_before(before, DELETE_IDS)
        return []

    async def _delete_before(self, before: datetime, statement: str) -> int:
        """Delete rows in chunks with this statement; return how many."""
        total, deleted = 0, self._rows
        while deleted == self._rows:
            async with planned_transaction(self._connection):
                parameters = {"before": before, "rows": self._rows}
                deletion = await self._connection.execute(statement.encode(), parameters)
            deleted = deletion.rowcount
            total += deleted
        return total

    async def _record(self, subject: str, **details: object) -> None:
        if self._operation is not None:
            operation = replace(self._operation, subject=subject, details=details)
            await operation.record(self._connection)
