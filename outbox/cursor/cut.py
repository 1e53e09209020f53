"""Cut: what became visible between two snapshots of PostgreSQL.

A position cannot be the cursor, because a lower position may commit after a higher one. A snapshot
can. The rows of a cut are those whose transaction the older snapshot (the cursor) did not show and
the newer one (upto) shows. A snapshot is consistent, so if it shows version 2 of a key then it also
shows version 1. Within one cut, the order of positions is the order in which the key's head was
locked. Transactions that are still open cost one index probe each and delay nobody.
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
from outbox.postgres.sql_file import read_statements
from outbox.runtime.cancellation import wait_until_ended

PATIENCE_SECONDS = 1.0
HIGHEST = 2**63 - 1  # the largest position, and the largest bigint
QUICK_MILLISECONDS = 1


class Row(NamedTuple):
    """A message as the relay handles it; texts are the bytes that PostgreSQL sent."""

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
    """A pg_snapshot in parts: every transaction before `xmax` has ended, except `running`."""

    text: str
    xmax: int
    running: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a pg_snapshot; raise ValueError where it is none."""
        _, xmax, running = text.split(":")
        return cls(text, int(xmax), tuple(int(xid) for xid in running.split(",") if xid))

    def build_parameters(self) -> dict[str, Any]:
        """Return the parameters by which statements find what this snapshot does not show."""
        return {"xmax": str(self.xmax), "running": [str(xid) for xid in self.running]}

    def is_same_as(self, other: "Snapshot") -> bool:
        """Return whether no transaction has begun or ended in between, so nothing can be new."""
        return (self.xmax, self.running) == (other.xmax, other.running)


@dataclass(frozen=True, slots=True)
class Cut:
    """All rows that `upto` shows and `cursor` does not, with a position above `after`."""

    cursor: Snapshot
    upto: Snapshot
    after: int = 0


@dataclass(frozen=True, slots=True)
class Extent:
    """How many messages a cut has, and the lowest position in it (None where it is empty)."""

    messages: int
    first_position: int | None


SQL = read_statements(__file__)
COLUMNS, PLANS, MEASURE = SQL["columns"], SQL["plans"], SQL["measure"]
SMALL, PAGE = Statement.of(SQL["small"]), Statement.of(SQL["page"])
NOW = b"SELECT pg_current_snapshot()"


class CutReader:
    """Reads cuts over one connection in autocommit, a page at a time.

    A page has at most `page_messages` rows. Without its last row it has less than `page_bytes` of
    payload.
    """

    def __init__(
        self, connection: psycopg.AsyncConnection[Any], page_messages: int, page_bytes: int
    ) -> None:
        self._connection = connection
        self.resize(page_messages, page_bytes)

    def resize(self, page_messages: int, page_bytes: int) -> None:
        """Set the size of the pages that are read from now on."""
        self._limit = page_messages
        self._bytes = page_bytes

    async def prepare(self) -> None:
        """Fix the plans, and read text as bytes: what goes to Kafka need not become str first."""
        self._connection.adapters.register_loader("text", ByteaBinaryLoader)
        await self._connection.execute(PLANS, {"local": False})

    async def read_snapshot(self) -> Snapshot:
        """Return the present snapshot of PostgreSQL.

        A relay at rest calls this twenty times a second, and hardly does anything else. So it waits
        up to a millisecond for the answer without the event loop, which takes longer to report the
        answer than the answer takes to arrive, and has nothing else to do meanwhile.
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
        """Count the messages of a cut and find its lowest position; this reads all of them."""
        cursor = await self._connection.execute(MEASURE, _build_parameters(cut), prepare=True)
        row = await cursor.fetchone()
        return Extent(*row) if row else Extent(0, None)

    async def read_small_cut(self, cut: Cut) -> list[Row] | None:
        """Return the whole cut in order, or None where it is larger than a page."""
        rows = await self._fetch(SMALL, _build_parameters(cut) | {"limit": self._limit + 1})
        if len(rows) > self._limit or _count_bytes(rows) >= self._bytes:
            return None
        rows.sort()
        return rows

    async def read_pages(self, cut: Cut) -> AsyncGenerator[list[Row], None]:
        """Yield the pages of a cut of any size, in order of position.

        PostgreSQL already prepares the next page while the caller works on one. Close the generator
        before you use the connection for anything else.
        """
        fetching = asyncio.create_task(self._fetch_page(cut, cut.after))
        try:
            while rows := await fetching:
                fetching = asyncio.create_task(self._fetch_page(cut, rows[-1].position))
                await asyncio.sleep(0)  # lets the request for the next page go out now
                yield rows
        finally:
            # Nothing else may use the connection before this has ended.
            await wait_until_ended(fetching, PATIENCE_SECONDS)

    async def _fetch_page(self, cut: Cut, after: int) -> list[Row]:
        return await self._fetch(
            PAGE, _build_parameters(cut) | {"after": after, "limit": self._limit}
        )

    async def _fetch(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        request = Request(statement, parameters | {"page_bytes": self._bytes})
        (rows,) = await execute_at_once(self._connection, [request])
        return [Row._make(row) for row in rows]


def _build_parameters(cut: Cut) -> dict[str, Any]:
    return cut.cursor.build_parameters() | {"upto": cut.upto.text}


def _count_bytes(rows: list[Row]) -> int:
    return sum(len(row.payload or b"") for row in rows)
