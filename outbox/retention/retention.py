"""Retention: days past it are dropped, once all of them is published, and the latest messages kept.

For each day, the oldest first: look, and leave it alone where something of it is not published;
copy what is its key's latest message to outbox.kept, without a lock; then, in one brief
transaction, keep everybody out, look again, and drop. Late messages are deleted row by row. Each
step may be repeated, by whoever comes next or at the same time: nothing but the tables themselves
remembers how far a prune came.

Why the drop is right. The lock is granted when no transaction that touched the day is open, and
none can touch it before the drop is committed; the statements after it have snapshots of their own,
so they see all that was ever written there. The relay's cursor shows all of that: it is
acknowledged, parked or discarded, and what is parked was recorded in the transaction that moved the
cursor past it. The snapshot that `keep` began with shows all of it, too: nothing is newer than the
copies.

Weaknesses: a day is dropped whole or not at all, so one parked message holds all of it. A reader of
outbox.messages that takes hours (a dump), or an orphaned prepared transaction, puts drops off.
Where another program publishes (Debezium), no cursor moves, and nothing is ever dropped.
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
    LATE,
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

# Whoever has used these tables in a transaction that is open for longer than we would wait: nobody
# need queue behind us for a lock that is not to be had. One without a process is prepared.
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
# In the order in which writers and readers lock them. ONLY: the other days are in nobody's way. The
# default one is locked by the drop anyway, because what belongs there changes.
LOCK = SQL("""
LOCK TABLE ONLY outbox.messages, ONLY outbox.messages_default, ONLY {day} IN ACCESS EXCLUSIVE MODE
""")
DROP = SQL("DROP TABLE {day}")
# What others may do to us meanwhile; later is as good.
BUSY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
)

# Ids rise with time, so the oldest come first by the primary key; one more index would be the
# relay's burden.
FORGET_DELIVERIES = """
DELETE FROM outbox.deliveries
WHERE id IN (SELECT id FROM outbox.deliveries ORDER BY id LIMIT %(rows)s)
  AND delivered_at < %(before)s
"""
# A given id is remembered for at least as long as the day of its message is kept.
FORGET_IDS = """
DELETE FROM outbox.message_ids
WHERE id IN (SELECT id FROM outbox.message_ids WHERE created_at < %(before)s
             ORDER BY created_at LIMIT %(rows)s)
"""


class Retention:
    """Prunes over one connection in autocommit.

    `operation` is recorded for each day, in the transaction that drops it, and for each chunk of
    late messages. `today` stands in for the database's date. `tell` hears what is being done.
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

    async def look(self) -> PruneResult:
        """What would be dropped now, and why not; `late` are then all that are past retention."""
        horizon = await read_horizon(self._connection, self._days, self._today)
        pruned = PruneResult()
        for day in await self._due(horizon):
            pruned.days.append(DayOutcome(str(day), await self._look(day), day.first))
        pruned.late, _ = await count_default_rows(self._connection, Chunk(0, HIGHEST), horizon)
        return pruned

    async def prune(self) -> PruneResult:
        """Do it; whatever is past retention and stays has its reason in the answer.

        DependencyDown on a standby. Killed at any statement, it may be run again. A step that fails
        is told there, too, and keeps no other from being done.
        """
        if self._operation is not None:
            self._operation.require_reason()
        horizon = await read_horizon(self._connection, self._days, self._today)
        pruned = PruneResult()
        for day in await self._due(horizon):
            pruned.days += await self._step(str(day), self._prune_day(day), day.first)
        pruned.days += await self._delete_late(horizon, pruned)
        if await self._halted() is None:
            pruned.days += await self._step("kept", self._forget_kept(pruned))
            pruned.days += await self._step("deliveries", self._forget_deliveries(horizon, pruned))
        return pruned

    async def _step(
        self, what: str, work: Awaitable[list[DayOutcome]], since: datetime | None = None
    ) -> list[DayOutcome]:
        """What it did; or why PostgreSQL did not let it. Without a connection nothing goes on."""
        try:
            return await work
        except psycopg.Error as error:
            if self._connection.closed:
                raise
            return [DayOutcome(what, f"failed: {str(error).splitlines()[0]}", since)]

    async def _due(self, horizon: datetime) -> list[DayPartition]:
        return [day for day in await read_days(self._connection) if day.due(horizon)]

    async def _prune_day(self, day: DayPartition) -> list[DayOutcome]:
        """One outcome; none where somebody else has dropped it meanwhile."""
        try:
            why = await self._look(day)
            if why is None:
                self._report(f"{day}: keeping the latest messages")
                seen, kept = await compact(self._connection, day, None, self._rows)
                self._report(f"{day}: dropping")
                why = await self._drop(day, seen, kept)
        except psycopg.errors.UndefinedTable:
            return []
        return [DayOutcome(str(day), why, day.first)]

    async def _look(self, day: DayPartition) -> str | None:
        """Without a lock: what would be in the way now."""
        async with planned_transaction(self._connection):
            return await self._why_not(day) or await self._held(day)

    async def _drop(self, day: DayPartition, seen: Snapshot, kept: int) -> str | None:
        """Drop it, or say why not; `seen` is the snapshot that its messages were kept by."""
        try:
            async with bounded_transaction(self._connection, self._limit):
                await self._connection.execute(LOCK.format(day=day.table))
                why = await self._why_not(day)
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

    async def _why_not(self, day: DayPartition) -> str | None:
        """The cursor is read before the day: what it shows then is published for good."""
        if halted := await self._halted():
            return halted
        if await has_hidden_messages(
            self._connection, day, (await read_progress(self._connection)).cursor
        ):
            return "unpublished: the relay's cursor does not show all of it"
        if parked := await count_parked(self._connection, day):
            return f"parked: {parked} messages wait behind one that Kafka refused"
        return None

    async def _halted(self) -> str | None:
        identity = await read_identity(self._connection)
        if identity.standby:
            raise DependencyDown("postgres", "this server is a standby, which takes no writes")
        if why := identity.explain_halt():
            return f"halted: {why}"
        return None if identity.recorded else "halted: no relay has published from here yet"

    async def _held(self, day: DayPartition) -> str | None:
        tables = ["outbox.messages", "outbox.messages_default", f"outbox.{day.name}"]
        parameters = {"tables": tables, "seconds": self._limit / 1000}
        found = await (await self._connection.execute(HOLDERS, parameters)).fetchone()
        if found is None:
            return None
        pid, seconds = found
        who = f"process {pid}, for {seconds} s" if pid else "a prepared transaction"
        return f"locked: in use by {who}"

    async def _delete_late(self, horizon: datetime, pruned: PruneResult) -> list[DayOutcome]:
        """One outcome where some are left. Where they cannot be deleted, they are counted still."""
        self._report("late messages")
        failed = await self._step(str(LATE), self._delete_chunks(horizon, pruned))
        left, since = 0, horizon
        async for chunk in read_chunks(self._connection, LATE, self._rows):
            async with planned_transaction(self._connection):
                count, first = await count_default_rows(self._connection, chunk, horizon)
            left, since = left + count, min(since, first or horizon)
        why = f"late: {left} messages are unpublished or parked, or a relay halts here"
        if failed:
            return [replace(failed[0], since=since)]
        return [DayOutcome(str(LATE), why, since)] if left else []

    async def _delete_chunks(self, horizon: datetime, pruned: PruneResult) -> list[DayOutcome]:
        if await self._halted() is None:
            await compact(self._connection, LATE, horizon, self._rows)
        async for chunk in read_chunks(self._connection, LATE, self._rows):
            async with planned_transaction(self._connection):
                pruned.late += await self._delete_chunk(chunk, horizon)
        return []

    async def _delete_chunk(self, chunk: Chunk, horizon: datetime) -> int:
        if await self._halted():
            return 0
        cursor = (await read_progress(self._connection)).cursor
        deleted = await delete_default_rows(self._connection, chunk, horizon, cursor)
        if deleted:
            await self._record(str(LATE), messages=deleted, before=horizon.isoformat())
        return deleted

    async def _forget_kept(self, pruned: PruneResult) -> list[DayOutcome]:
        """Each copy that is no longer its key's latest message."""
        self._report("forgetting what is no longer the latest")
        pruned.kept = await delete_compacted(self._connection, self._rows)
        return []

    async def _forget_deliveries(self, horizon: datetime, pruned: PruneResult) -> list[DayOutcome]:
        """They, and the ids that callers gave, are kept while there are messages that need them."""
        left = [outcome.since for outcome in pruned.days if outcome.why_not and outcome.since]
        before = min([horizon, *left])
        pruned.deliveries = await self._delete_before(before, FORGET_DELIVERIES)
        pruned.ids = await self._delete_before(before, FORGET_IDS)
        return []

    async def _delete_before(self, before: datetime, statement: str) -> int:
        """How many rows it deleted, a chunk at a time."""
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
