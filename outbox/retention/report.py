"""Report: every partition of outbox.messages as it is now, for an operator or a monitor."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from outbox.cursor.cut import HIGHEST, Snapshot
from outbox.cursor.progress import read_progress
from outbox.postgres.transactions import planned_transaction
from outbox.retention.compaction import Chunk
from outbox.retention.day_partitions import (
    DayPartition,
    count_parked,
    has_hidden_messages,
    measure,
    read_days,
    read_horizon,
)
from outbox.retention.default_partition import count_default_rows


@dataclass(frozen=True, slots=True)
class DayReport:
    """One partition, as it is now.

    `messages` is exact up to 16 MiB and an estimate beyond; `bytes` includes indexes. `published`
    is whether the relay's cursor shows all of it; of these, `parked` messages still wait. `due` is
    whether all of it is past retention; for the default partition, whether any message is.
    """

    name: str
    day: str
    messages: int
    bytes: int
    published: bool
    parked: int
    due: bool


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """All partitions, the oldest first and the default one last, and the compacted messages.

    `kept` counts rows of outbox.compacted. Messages created before `horizon` are past retention.
    """

    horizon: datetime
    days: list[DayReport]
    kept: int


async def read_report(
    connection: psycopg.AsyncConnection[Any], retention_days: int
) -> RetentionReport:
    """Read the report on one connection in autocommit, each day in a snapshot of its own."""
    horizon = await read_horizon(connection, retention_days)
    cursor = (await read_progress(connection)).cursor
    days = [
        await _read_day_report(connection, day, cursor, horizon)
        for day in await read_days(connection)
    ]
    kept, _ = await measure(connection, "compacted")
    return RetentionReport(horizon, days, kept)


async def _read_day_report(
    connection: psycopg.AsyncConnection[Any], day: DayPartition, cursor: Snapshot, horizon: datetime
) -> DayReport:
    messages, size = await measure(connection, day.name)
    async with planned_transaction(connection):
        return DayReport(
            name=day.name,
            day=str(day),
            messages=messages,
            bytes=size,
            published=not await has_hidden_messages(connection, day, cursor),
            parked=await count_parked(connection, day),
            due=await _is_due(connection, day, horizon),
        )


async def _is_due(
    connection: psycopg.AsyncConnection[Any], day: DayPartition, horizon: datetime
) -> bool:
    if day.first is not None:
        return day.due(horizon)
    count, _ = await count_default_rows(connection, Chunk(0, HIGHEST), horizon)
    return count > 0
