"""Cut: what became visible between two snapshots of PostgreSQL.

A number cannot be a cursor: a lower position may commit after a higher one. A snapshot can. Rows
of the cut are those whose transaction the older snapshot (the cursor) did not show and the newer
one (upto) shows. A snapshot is consistent, so if a key's v2 is in it then so is v1; and within one
cut, position order is the order in which the key's head was locked. Transactions that are still
open cost one index probe each and delay nobody.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import psycopg
from psycopg.generators import fetch_many
from psycopg.pq import ExecStatus
from psycopg.types.string import ByteaBinaryLoader

from outbox.postgres.pipeline import Request, Statement, execute_at_once, is_readable
from outbox.runtime.cancellation import wait_until_ended

PATIENCE_SECONDS = 1.0
HIGHEST = 2**63 - 1  # what a position, or any other bigint, can be at most
QUICK_MILLISECONDS = 1


class Row(NamedTuple):
    """A message as the relay handles it: text as the bytes that PostgreSQL sent."""

    position: int
    topic: bytes
    key: bytes
    aggregatetype: bytes
    id: bytes
    type: bytes
    version: int
    payload: bytes | None
    headers: bytes
    time: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """pg_snapshot in parts: all before `xmax` is decided, except the `running` ones."""

    text: str
    xmax: int
    running: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        _, xmax, running = text.split(":")
        return cls(text, int(xmax), tuple(int(xid) for xid in running.split(",") if xid))

    def is_same_as(self, other: "Snapshot") -> bool:
        """No transaction has begun or ended in between: there can be nothing new."""
        return (self.xmax, self.running) == (other.xmax, other.running)


@dataclass(frozen=True, slots=True)
class Cut:
    """Everything that `upto` shows and `cursor` did not, from behind position `after`."""

    cursor: Snapshot
    upto: Snapshot
    after: int = 0


@dataclass(frozen=True, slots=True)
class Extent:
    """How large a cut is, and where it starts."""

    messages: int
    first_position: int | None


# What a row becomes, wherever COLUMNS stands below.
COLUMNS = """position, topic, aggregateid, aggregatetype, id::text, type, version, payload,
    headers::text,
    to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""

# The candidates of a cut in two disjoint index ranges (a running one is always below xmax), then
# what `upto` shows of them. transaction_id is the top-level one, as snapshots are.
_CANDIDATES = """
    SELECT * FROM outbox.messages
    WHERE transaction_id >= %(xmax)b::xid8
      AND pg_visible_in_snapshot(transaction_id, %(upto)b::pg_snapshot)
    UNION ALL
    SELECT * FROM outbox.messages
    WHERE transaction_id = ANY (%(running)b::xid8[])
      AND pg_visible_in_snapshot(transaction_id, %(upto)b::pg_snapshot)
"""

# A page ends at the row that fills it. The length of a large payload is known without reading it,
# and the window, a running sum, takes the rows in the order in which they come.
_BOUNDED = """
    SELECT COLUMNS FROM (
        SELECT *, sum(octet_length(coalesce(payload, ''))) OVER (ROWS UNBOUNDED PRECEDING) AS bytes
        FROM (ROWS) AS candidate
    ) AS message
    WHERE bytes - octet_length(coalesce(payload, '')) < %(page_bytes)b::bigint
""".replace("COLUMNS", COLUMNS)

# Unordered on purpose: a small cut is sorted here in no time, and a large one must not be sorted
# whole for its first page.
SMALL = Statement.of(_BOUNDED.replace("(ROWS)", f"({_CANDIDATES} LIMIT %(limit)b::bigint)"))

MEASURE = "SELECT count(*), min(position) FROM (CANDIDATES) AS cut".replace(
    "CANDIDATES", _CANDIDATES
)

# The pages of a large cut follow the index on position from where the last one ended; rows of
# other cuts on the way are skipped. No page sorts, and none is counted twice.
PAGE = Statement.of(
    _BOUNDED.replace(
        "(ROWS)",
        """(
    SELECT * FROM outbox.messages
    WHERE position > %(after)b::bigint
      AND (transaction_id >= %(xmax)b::xid8 OR transaction_id = ANY (%(running)b::xid8[]))
      AND pg_visible_in_snapshot(transaction_id, %(upto)b::pg_snapshot)
    ORDER BY position LIMIT %(limit)b::bigint)""",
    )
)

NOW = b"SELECT pg_current_snapshot()"

# Statistics of a table that fills in seconds are always stale; the relay's three statements have
# one right plan each, so the planner is given no other choice. Nor is it asked twice: over retained
# rows it takes a plan for the values at hand for cheaper, and planning costs more than the poll.
PLANS = (
    "SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off; SET jit = off; "
    "SET plan_cache_mode = force_generic_plan"
)


class CutReader:
    """Reads cuts over one connection in autocommit, a page at a time.

    A page has at most `page_messages` rows and, but for its last row, less than `page_bytes`.
    """

    def __init__(
        self, connection: psycopg.AsyncConnection[Any], page_messages: int, page_bytes: int
    ) -> None:
        self._connection = connection
        self.resize(page_messages, page_bytes)

    def resize(self, page_messages: int, page_bytes: int) -> None:
        """For the pages that are read from now on."""
        self._limit = page_messages
        self._bytes = page_bytes

    async def prepare(self) -> None:
        """Choose plans, and take text as bytes: what goes to Kafka need not become str first."""
        self._connection.adapters.register_loader("text", ByteaBinaryLoader)
        await self._connection.execute(PLANS)

    async def read_snapshot(self) -> Snapshot:
        """Asked twenty times a second at rest, where little else but its cost is left.

        A quick answer is waited for here and now: it takes less time than to be told of it by the
        event loop, which has nothing else to do meanwhile.
        """
        connection = self._connection.pgconn
        async with self._connection.lock:
            connection.send_query(NOW)
            connection.flush()
            if is_readable(connection.socket, QUICK_MILLISECONDS):
                connection.consume_input()
            (result,) = await self._connection.wait(fetch_many(connection))
        if result.status != ExecStatus.TUPLES_OK:
            raise psycopg.errors.error_from_result(result)
        return Snapshot.parse((result.get_value(0, 0) or b"").decode())

    async def measure(self, cut: Cut) -> Extent:
        cursor = await self._connection.execute(MEASURE, _parameters(cut), prepare=True)
        row = await cursor.fetchone()
        return Extent(*row) if row else Extent(0, None)

    async def read_small_cut(self, cut: Cut) -> list[Row] | None:
        """The whole cut in order, or None when it is larger than a page."""
        rows = await self._fetch(SMALL, _parameters(cut) | {"limit": self._limit + 1})
        if len(rows) > self._limit or _size(rows) >= self._bytes:
            return None
        rows.sort()
        return rows

    async def read_pages(self, cut: Cut) -> AsyncGenerator[list[Row], None]:
        """The rows of a cut of any size, in order; PostgreSQL makes the next page meanwhile."""
        fetching = asyncio.create_task(self._page(cut, cut.after))
        try:
            while rows := await fetching:
                fetching = asyncio.create_task(self._page(cut, rows[-1].position))
                await asyncio.sleep(0)  # it is asked for now, not after what the caller does first
                yield rows
        finally:
            await wait_until_ended(
                fetching, PATIENCE_SECONDS
            )  # nothing else may use the connection before

    async def _page(self, cut: Cut, after: int) -> list[Row]:
        return await self._fetch(PAGE, _parameters(cut) | {"after": after, "limit": self._limit})

    async def _fetch(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        request = Request(statement, parameters | {"page_bytes": self._bytes})
        (rows,) = await execute_at_once(self._connection, [request])
        return [Row._make(row) for row in rows]


def _parameters(cut: Cut) -> dict[str, Any]:
    return {
        "xmax": str(cut.cursor.xmax),
        "running": [str(xid) for xid in cut.cursor.running],
        "upto": cut.upto.text,
    }


def _size(rows: list[Row]) -> int:
    return sum(len(row.payload or b"") for row in rows)
