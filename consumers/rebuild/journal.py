"""Rebuilds: the row of each, and the lock of whoever carries one out.

The lock is PostgreSQL's advisory one, of a session: it is gone with a process that is killed, and
stays with one that is stopped. That is what is wanted here: a stopped process may wake up and
switch, so nobody else may begin before a person has ended it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from outbox.errors import Halted
from outbox.operations import Operation

Connection = psycopg.AsyncConnection[Any]


class Phase(StrEnum):
    """FILLING: towards parity. SWITCHING: it has it. SETTLING: it is live.

    DONE, and ABANDONED for a rollback or because its generation was dropped, are the ends.
    """

    FILLING = "filling"
    SWITCHING = "switching"
    SETTLING = "settling"
    DONE = "done"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Rebuild:
    """One of outbox.rebuilds; `action` is `rebuild` or `rollback`."""

    id: int
    projection: str
    action: str
    generation: int
    former: int
    model: str | None
    phase: Phase
    keys: int
    differing: int
    brought: int
    checks: int
    operator: str
    reason: str
    started_at: datetime
    updated_at: datetime
    switched_at: datetime | None
    finished_at: datetime | None

    @property
    def is_open(self) -> bool:
        return self.phase not in (Phase.DONE, Phase.ABANDONED)


TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('aftercommit.rebuild.' || %s, 0))"
LATEST = "SELECT * FROM outbox.rebuilds WHERE projection = %s ORDER BY id DESC LIMIT 1"
LAST_NUMBER = "SELECT coalesce(max(generation), 0) FROM outbox.rebuilds WHERE projection = %s"
INSERT = """
    INSERT INTO outbox.rebuilds
        (projection, action, generation, former, model, phase, operator, reason)
    VALUES (%(projection)s, %(action)s, %(generation)s, %(former)s, %(model)s, 'filling',
            %(operator)s, %(reason)s)
    RETURNING *
"""
ENTER = """
    UPDATE outbox.rebuilds
    SET phase = %(phase)s, brought = %(brought)s, updated_at = now(),
        switched_at = CASE WHEN %(phase)s = 'settling' THEN now() ELSE switched_at END,
        finished_at = CASE WHEN %(phase)s IN ('done', 'abandoned') THEN now() END
    WHERE id = %(id)s RETURNING *
"""
CHECKED = """
    UPDATE outbox.rebuilds
    SET keys = %(keys)s, differing = %(differing)s, brought = %(brought)s,
        checks = checks + 1, updated_at = now()
    WHERE id = %(id)s RETURNING *
"""
KEEP = "UPDATE outbox.rebuilds SET brought = %s, updated_at = now() WHERE id = %s"
END_OPEN = """
    UPDATE outbox.rebuilds SET phase = 'abandoned', updated_at = now(), finished_at = now()
    WHERE projection = %s AND generation = %s AND phase IN ('filling', 'switching', 'settling')
"""


async def take_lock(connection: Connection, projection: str) -> None:
    """From now on, for as long as this session lasts, nobody else touches these generations.

    Halted where somebody does already.
    """
    row = await (await connection.execute(TRY_LOCK, [projection])).fetchone()
    if row is None or not row[0]:
        raise Halted(f"another process rebuilds {projection}: wait for it, or end it first")


async def find_latest(connection: Connection, projection: str) -> Rebuild | None:
    """The one that began last."""
    return await _row(connection, LATEST, [projection])


async def last_number(connection: Connection, projection: str) -> int:
    """The highest generation that any rebuild was to make; 0 for none."""
    row = await (await connection.execute(LAST_NUMBER, [projection])).fetchone()
    return int(row[0]) if row else 0


async def begin(
    connection: Connection, operation: Operation, generation: int, former: int, model: str | None
) -> Rebuild:
    """Open one, with the operation that wants it; `operation.action` is what it does."""
    operation.details.update(generation=generation, former=former, model=model)
    async with connection.transaction():
        await operation.record(connection)
        return await _required(
            connection,
            INSERT,
            {
                "projection": operation.subject,
                "action": operation.action,
                "generation": generation,
                "former": former,
                "model": model,
                "operator": operation.operator,
                "reason": operation.reason.strip(),
            },
        )


async def enter(connection: Connection, rebuild: Rebuild, phase: Phase, brought: int) -> Rebuild:
    """It has come so far, and brought so many keys over."""
    parameters = {"id": rebuild.id, "phase": phase, "brought": brought}
    return await _required(connection, ENTER, parameters)


async def record_check(
    connection: Connection, rebuild: Rebuild, keys: int, differing: int, brought: int
) -> Rebuild:
    """A check has found so many of so many keys to differ."""
    parameters = {"id": rebuild.id, "keys": keys, "differing": differing, "brought": brought}
    return await _required(connection, CHECKED, parameters)


async def keep(connection: Connection, rebuild: Rebuild, brought: int) -> None:
    """So many keys altogether were brought over."""
    await connection.execute(KEEP, [brought, rebuild.id])


async def end_open(connection: Connection, projection: str, generation: int) -> bool:
    """Abandon the open rebuild into this generation, because that is dropped; whether one was."""
    ended = await connection.execute(END_OPEN, [projection, generation])
    return ended.rowcount > 0


async def _required(connection: Connection, query: LiteralString, parameters: Any) -> Rebuild:
    row = await _row(connection, query, parameters)
    if row is None:
        raise Halted("the rebuild's row is gone from outbox.rebuilds")
    return row


async def _row(connection: Connection, query: LiteralString, parameters: Any) -> Rebuild | None:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, parameters)
        row = await cursor.fetchone()
    return Rebuild(**row | {"phase": Phase(row["phase"])}) if row else None
