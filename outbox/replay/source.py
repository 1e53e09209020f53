"""ReplaySource: the messages that a replay publishes once more, in the order of their positions.

It yields published messages only: the relay's cursor shows them, so the broker has acknowledged
them, and a repetition is a duplicate by id. Other messages are left out: one that the relay has not
published yet will be published anyway, a parked one waits, and one that an operator has discarded
was never published and must not appear now. Messages come from outbox.messages, and from
outbox.compacted where retention has dropped their daily partition: of such days only each key's
latest message is left.

Weakness: only positions have an index, so a selection by key, type or time reads the whole range of
positions, a chunk at a time.
"""

from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg.types.string import ByteaBinaryLoader

from outbox.cursor.cut import COLUMNS, HIGHEST, Row
from outbox.postgres.sql_file import read_statements
from outbox.postgres.transactions import planned_transaction
from outbox.runtime.progress import OnProgress

CHUNK_ROWS = 20_000

SQL = read_statements(__file__, columns=COLUMNS)


@dataclass(frozen=True, slots=True)
class ReplaySelection:
    """Which messages are meant: those that match every field. A field that is None matches any.

    `since` is included and `before` is not; both positions are included.
    """

    aggregates: list[str] | None = None
    keys: list[str] | None = None
    types: list[str] | None = None
    topics: list[str] | None = None
    since: datetime | None = None
    before: datetime | None = None
    first_position: int = 0
    last_position: int = HIGHEST

    def parameters(self, behind: int, upto: int) -> dict[str, Any]:
        """Return the parameters of the statements above, for `behind` < position <= `upto`."""
        return {
            "aggregates": self.aggregates, "keys": self.keys, "types": self.types,
            "topics": self.topics, "since": self.since, "before": self.before,
            "behind": behind, "upto": upto,
        }  # fmt: skip


class RangeKind(NamedTuple):
    """Messages of one type on one topic."""

    topic: str
    type: str


@dataclass(frozen=True, slots=True)
class ReplayPreview:
    """What a selection holds now, up to `last_position`; the times are those of the messages."""

    counts: dict[RangeKind, int]
    last_position: int
    first_time: datetime | None = None
    last_time: datetime | None = None

    @property
    def messages(self) -> int:
        return sum(self.counts.values())

    @property
    def topics(self) -> list[str]:
        return sorted({kind.topic for kind in self.counts})


@dataclass(frozen=True, slots=True)
class ReplayPage:
    """Rows in order, perhaps none. With them, all that is selected up to `position` is done."""

    rows: list[Row]
    position: int


class ReplaySource:
    """Reads one selection over one connection in autocommit, from above `position` on.

    The payloads of a page have less than `page_bytes`, its last row not counted.
    """

    def __init__(
        self,
        connection: psycopg.AsyncConnection[Any],
        selection: ReplaySelection,
        position: int,
        page_bytes: int,
    ) -> None:
        connection.adapters.register_loader("text", ByteaBinaryLoader)  # the renderer wants bytes
        self._connection = connection
        self._selection = selection
        self._position = position
        self._bytes = page_bytes
        self._chunk_end = position

    async def read_page(self, messages: int) -> ReplayPage | None:
        """Read the next page of at most `messages` rows; return None at the end.

        A page without rows means that a chunk had no message of the selection.
        """
        if self._position >= self._selection.last_position:
            return None
        if self._position >= self._chunk_end:
            self._chunk_end = await find_chunk_end(
                self._connection, self._selection, self._position
            )
        rows = await self._read_rows(messages)
        whole = len(rows) < messages and sum(len(r.payload or b"") for r in rows) < self._bytes
        self._position = self._chunk_end if whole else rows[-1].position
        return ReplayPage(rows, self._position)

    async def _read_rows(self, messages: int) -> list[Row]:
        selected = self._selection.parameters(self._position, self._chunk_end)
        bounds = {"limit": messages, "bytes": self._bytes}
        async with (
            planned_transaction(self._connection),
            self._connection.cursor(binary=True) as cursor,
        ):
            await cursor.execute(SQL["page"], selected | bounds)
            return sorted(Row._make(row) for row in await cursor.fetchall())


async def preview_replay(
    connection: psycopg.AsyncConnection[Any], selection: ReplaySelection, on_progress: OnProgress
) -> ReplayPreview:
    """Count the selection, chunk by chunk; `on_progress` gets positions read, and of how many."""
    counts: Counter[RangeKind] = Counter()
    times: list[datetime] = []
    selection = await end_at_relay(connection, selection)
    async for rows in _read_chunks(connection, selection, SQL["count"], on_progress):
        for topic, type_, messages, first, last in rows:
            counts[RangeKind(topic, type_)] += messages
            times += [first, last]
    ends = (min(times), max(times)) if times else (None, None)
    return ReplayPreview(dict(sorted(counts.items())), selection.last_position, *ends)


async def read_selected_keys(
    connection: psycopg.AsyncConnection[Any], selection: ReplaySelection, on_progress: OnProgress
) -> dict[tuple[str, str], int]:
    """Return the highest selected version of each (aggregate, key); about 300 bytes a key."""
    found: dict[tuple[str, str], int] = {}
    async for rows in _read_chunks(
        connection, await end_at_relay(connection, selection), SQL["keys"], on_progress
    ):
        for aggregate, key, version in rows:
            found[aggregate, key] = max(version, found.get((aggregate, key), 0))
    return found


async def end_at_relay(
    connection: psycopg.AsyncConnection[Any], selection: ReplaySelection
) -> ReplaySelection:
    """Return the selection, ended at the relay's position: what comes later is not replayed."""
    row = await (await connection.execute(SQL["passed"])).fetchone()
    passed = row[0] if row else 0
    return replace(selection, last_position=min(selection.last_position, passed))


async def find_chunk_end(
    connection: psycopg.AsyncConnection[Any], selection: ReplaySelection, behind: int
) -> int:
    """Return the position CHUNK_ROWS rows above `behind`, or the selection's last one."""
    parameters = {"behind": behind, "last": selection.last_position, "rows": CHUNK_ROWS}
    async with planned_transaction(connection):
        row = await (await connection.execute(SQL["chunk_end"], parameters)).fetchone()
    return int(row[0]) if row else selection.last_position


async def _read_chunks(
    connection: psycopg.AsyncConnection[Any],
    selection: ReplaySelection,
    statement: bytes,
    on_progress: OnProgress,
) -> AsyncGenerator[list[Any], None]:
    """Yield the statement's rows of one chunk of positions after another."""
    behind = selection.first_position - 1
    while behind < selection.last_position:
        upto = await find_chunk_end(connection, selection, behind)
        async with planned_transaction(connection):
            parameters = selection.parameters(behind, upto)
            yield await (await connection.execute(statement, parameters)).fetchall()
        behind = upto
        on_progress(
            behind - selection.first_position, selection.last_position - selection.first_position
        )
