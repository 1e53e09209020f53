"""AuditScope: what PostgreSQL says of a range at one moment, before the topics are read.

All of it is read in one snapshot and then stored: the positions of the range, the topics and
offsets at which its records may be, the messages that are parked or discarded, the recorded
deliveries, and, as snapshots, what the relay had passed and what was committed. So no transaction
stays open while the topics are read, and yet the messages can be judged afterwards by what was
true before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from outbox.cursor.cut import HIGHEST
from outbox.cursor.database_identity import read_identity
from outbox.cursor.relay_row import require_relay_row
from outbox.errors import Halted, InvalidInput
from outbox.kafka import Partition
from outbox.kafka.reader import OffsetRange
from outbox.postgres.sql_file import read_statements

SQL = read_statements(__file__)


@dataclass(frozen=True, slots=True)
class Range:
    """The messages to audit: by position, by time, or all that PostgreSQL still has.

    A time is an instant, or a duration before the database's now. `topics` restricts them further.
    """

    from_position: int | None = None
    to_position: int | None = None
    since: datetime | str | None = None
    until: datetime | str | None = None
    topics: Sequence[str] | None = None

    def check(self) -> None:
        """Raise InvalidInput where it mixes positions and times, or where it is empty."""
        by_position = (self.from_position, self.to_position) != (None, None)
        if by_position and (self.since, self.until) != (None, None):
            raise InvalidInput("range", "range", "is given by positions or by times, not by both")
        if (self.from_position or 0) > (HIGHEST if self.to_position is None else self.to_position):
            raise InvalidInput("range", "from-position", "must not be above the last one")


@dataclass(frozen=True, slots=True)
class AuditScope:
    """What `read_scope` found.

    With `open` no lower bound was asked for, so none is applied. `places` has for each partition
    the offset at which the range may begin, and that at which its neighbours begin. Deliveries from
    before `deliveries_since` may have been deleted; it is None where none has been.
    """

    lowest: int
    highest: int
    open: bool
    cursor: str
    upto: str | None
    passed: int
    committed: str
    deliveries_since: datetime | None
    topics: Mapping[str, int]
    places: Mapping[Partition, OffsetRange]

    def span(self, at: Partition, held: OffsetRange) -> OffsetRange:
        """Return the offsets of a partition to read; all, if the topic was created anew since."""
        place = self.places.get(at, OffsetRange(0, HIGHEST))
        return OffsetRange(
            held.first if place.first > held.end else max(place.first, held.first), held.end
        )


async def read_scope(connection: psycopg.AsyncConnection[Any], asked: Range) -> AuditScope:
    """Read the scope in one short transaction of one snapshot.

    InvalidInput for an invalid range; Halted where the relay's cursor means nothing here.
    """
    asked.check()
    await connection.execute(SQL["prepare"])
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        identity = await read_identity(connection)
        if identity.foreign_ids:
            raise Halted(str(identity.explain_halt()))
        return await _read_scope(connection, asked)


async def _read_scope(connection: psycopg.AsyncConnection[Any], asked: Range) -> AuditScope:
    async with connection.cursor(row_factory=dict_row) as cursor:
        relay = require_relay_row(await (await cursor.execute(SQL["relay"])).fetchone())
    lowest, highest = await _read_bounds(connection, asked, relay)
    values = {"lowest": lowest, "highest": highest, "topics": asked.topics and list(asked.topics)}
    topics = await (await connection.execute(SQL["topics"], values)).fetchall()
    await connection.execute(SQL["deliveries"], values)
    await connection.execute(SQL["index_deliveries"])
    await connection.execute(SQL["aside"], values)
    places = await connection.execute(SQL["places"], values | {"unbounded": HIGHEST})
    return AuditScope(
        lowest, highest, _is_open(asked), relay["cursor"], relay["upto"], relay["position"],
        relay["committed"], relay["deliveries_since"], {name: number for number, name in topics},
        {(topic, at): OffsetRange(first, end) for topic, at, first, end in await places.fetchall()},
    )  # fmt: skip


def _is_open(asked: Range) -> bool:
    return asked.from_position is None and asked.since is None


async def _read_bounds(
    connection: psycopg.AsyncConnection[Any], asked: Range, relay: Mapping[str, Any]
) -> tuple[int, int]:
    oldest, beyond = relay["oldest"] or 0, relay["highest"] + 1
    lowest = oldest if asked.from_position is None else asked.from_position
    highest = HIGHEST if asked.to_position is None else asked.to_position
    if asked.since is not None:
        lowest = await _read_position(connection, SQL["since"], asked.since, beyond)
    if asked.until is not None:
        highest = await _read_position(connection, SQL["until"], asked.until, 0)
    return lowest, highest


async def _read_position(
    connection: psycopg.AsyncConnection[Any],
    statement: bytes,
    given: datetime | str,
    otherwise: int,
) -> int:
    """Return the position for a time, or `otherwise` where no message is in it."""
    time: Any = given
    if isinstance(given, str):
        row = await (await connection.execute(SQL["database_time"], {"before": given})).fetchone()
        time = row and row[0]
    elif given.tzinfo is None:
        time = given.replace(tzinfo=UTC)
    row = await (await connection.execute(statement, {"time": time})).fetchone()
    return otherwise if row is None or row[0] is None else int(row[0])
