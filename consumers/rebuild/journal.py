"""Journal of rebuilds: the row of each rebuild, and the lock of the process that runs one.

The lock is an advisory lock of a PostgreSQL session: it is gone with a process that is killed, and
stays with one that is stopped (SIGSTOP). That is intended: a stopped process may wake up and
switch, so no other process may begin before an operator has ended it.
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
    """How far a rebuild is.

    FILLING: the generation is brought to parity. SWITCHING: it has reached parity. SETTLING: it is
    live. DONE is the end; ABANDONED is the end for a rebuild that a rollback replaced, or whose
    generation was dropped.
    """

    FILLING = "filling"
    SWITCHING = "switching"
    SETTLING = "settling"
    DONE = "done"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A row of outbox.rebuilds; `action` is `rebuild` or `rollback`.

    `generation` is the one that becomes live, and `former` the one that was live before. `keys`
    and `differing` are of the last check; `brought` counts the keys that were repaired.
    """

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
        """Whether it has not ended."""
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
RECORD_CHECK = """
    UPDATE outbox.rebuilds
    SET keys = %(keys)s, differing = %(differing)s, brought = %(brought)s,
        checks = checks + 1, updated_at = now()
    WHERE id = %(id)s RETURNING *
"""
SAVE_PROGRESS = "UPDATE outbox.rebuilds SET brought = %s, updated_at = now() WHERE id = %s"
END_OPEN = """
    UPDATE outbox.rebuilds SET phase = 'abandoned', updated_at = now(), finished_at = now()
    WHERE projection = %s AND generation = %s AND phase IN ('filling', 'switching', 'settling')
"""


async def take_lock(connection: Connection, projection: str) -> None:
    """Lock the projection's generations for as long as this session lasts.

    Raises Halted where another process has the lock.
    """
    row = await (await connection.execute(TRY_LOCK, [projection])).fetchone()
    if row is None or not row[0]:
        raise Halted(f"another process rebuilds {projection}: wait for it, or end it first")


async def find_latest(connection: Connection, projection: str) -> Rebuild | None:
    """The rebuild of this projection that began last; None where there was none."""
    return await _fetch_row(connection, LATEST, [projection])


async def find_last_number(connection: Connection, projection: str) -> int:
    """The highest generation number of all rebuilds; 0 where there was none."""
    row = await (await connection.execute(LAST_NUMBER, [projection])).fetchone()
    return int(row[0]) if row else 0


async def begin(
    connection: Connection, operation: Operation, generation: int, former: int, model: str | None
) -> Rebuild:
    """Insert the row of a new rebuild, and record its operation in the same transaction.

    `operation.action` is `rebuild` or `rollback`.
    """
    operation.details.update(generation=generation, former=former, model=model)
    async with connection.transaction():
        await operation.record(connection)
        return await _require_row(
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


async def enter_phase(
    connection: Connection, rebuild: Rebuild, phase: Phase, brought: int
) -> Rebuild:
    """Save that the rebuild is in this phase, and how many keys were brought over."""
    parameters = {"id": rebuild.id, "phase": phase, "brought": brought}
    return await _require_row(connection, ENTER, parameters)


async def record_check(
    connection: Connection, rebuild: Rebuild, keys: int, differing: int, brought: int
) -> Rebuild:
    """Save what a check found: how many keys there are, and how many of them differ."""
    parameters = {"id": rebuild.id, "keys": keys, "differing": differing, "brought": brought}
    return await _require_row(connection, RECORD_CHECK, parameters)


async def save_progress(connection: Connection, rebuild: Rebuild, brought: int) -> None:
    """Save how many keys were brought over altogether."""
    await connection.execute(SAVE_PROGRESS, [brought, rebuild.id])


async def end_open(connection: Connection, projection: str, generation: int) -> bool:
    """Abandon the open rebuild into a generation that is dropped; returns whether there was one."""
    ended = await connection.execute(END_OPEN, [projection, generation])
    return ended.rowcount > 0


async def _require_row(connection: Connection, query: LiteralString, parameters: Any) -> Rebuild:
    row = await _fetch_row(connection, query, parameters)
    if row is None:
        raise Halted("the rebuild's row is gone from outbox.rebuilds")
    return row


async def _fetch_row(
    connection: Connection, query: LiteralString, parameters: Any
) -> Rebuild | None:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, parameters)
        row = await cursor.fetchone()
    return Rebuild(**row | {"phase": Phase(row["phase"])}) if row else None
