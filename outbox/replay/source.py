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
from outbox.postgres.transactions import planned_transaction
from outbox.runtime.progress import OnProgress

CHUNK_ROWS = 20_000

SELECTED = """
    message.position > %(behind)s AND message.position <= %(upto)s
    AND (%(aggregates)s::text[] IS NULL OR message.aggregatetype = ANY (%(aggregates)s))
    AND (%(keys)s::text[] IS NULL OR message.aggregateid = ANY (%(keys)s))
    AND (%(types)s::text[] IS NULL OR message.type = ANY (%(types)s))
    AND (%(topics)s::text[] IS NULL OR message.topic = ANY (%(topics)s))
    AND (%(since)s::timestamptz IS NULL OR message.created_at >= %(since)s)
    AND (%(before)s::timestamptz IS NULL OR message.created_at < %(before)s)
"""
# A message that an operator discarded was parked before; now only the operation's details name it.
DISCARDED = """
    SELECT (key->>'position')::bigint
    FROM outbox.operations, jsonb_array_elements(details->'keys') AS key
    WHERE action = 'parked discard'
"""


def _select_published(limit: str) -> str:
    """Return the statement that selects published messages, with `limit` in each of its halves.

    It is one statement, so that all of it is true at one moment: the relay moves its cursor and
    parks what was refused in one transaction, and `discard` changes both in one, too. Where a page
    limits each half, an index gives the rows in order and no chunk is sorted.
    """
    return f"""
(SELECT message.position, topic, aggregateid, aggregatetype, id, type, version, payload, headers,
        created_at
 FROM outbox.messages AS message JOIN outbox.relay ON relay.name = 'main'
 WHERE {SELECTED}
   AND (pg_visible_in_snapshot(message.transaction_id, relay.cursor)
        OR (message.position <= relay.position
            AND pg_visible_in_snapshot(message.transaction_id, relay.upto)))
   AND NOT EXISTS (SELECT FROM outbox.parked_messages AS waiting
                   WHERE waiting.aggregatetype = message.aggregatetype
                     AND waiting.aggregateid = message.aggregateid
                     AND waiting.position = message.position)
   AND message.position NOT IN ({DISCARDED}) {limit})
UNION ALL
(SELECT message.position, topic, aggregateid, aggregatetype, id, type, version, payload, headers,
        created_at
 FROM outbox.compacted AS message
 WHERE {SELECTED}
   AND NOT EXISTS (SELECT FROM outbox.messages AS same WHERE same.position = message.position)
   AND message.position NOT IN ({DISCARDED}) {limit})
"""  # noqa: S608 - constants


WHOLE = _select_published("")
LIMITED = _select_published("ORDER BY message.position LIMIT %(limit)s")
# A chunk ends so many rows further on, whether they are selected or not.
END = """
SELECT position FROM (
    (SELECT position FROM outbox.messages
     WHERE position > %(behind)s AND position <= %(last)s ORDER BY position LIMIT %(rows)s)
    UNION ALL
    (SELECT position FROM outbox.compacted
     WHERE position > %(behind)s AND position <= %(last)s ORDER BY position LIMIT %(rows)s)
) AS row ORDER BY position OFFSET %(rows)s - 1 LIMIT 1
"""
# A page ends at the row that fills it, like a page of a cut.
PAGE = f"""
SELECT {COLUMNS} FROM (
    SELECT *, sum(octet_length(coalesce(payload, ''))) OVER (ROWS UNBOUNDED PRECEDING) AS bytes
    FROM ({LIMITED} ORDER BY position LIMIT %(limit)s) AS candidate
) AS message
WHERE bytes - octet_length(coalesce(payload, '')) < %(bytes)s
"""  # noqa: S608 - constants
COUNT = f"""
SELECT topic, type, count(*), min(created_at), max(created_at) FROM ({WHOLE}) AS message
GROUP BY topic, type
"""  # noqa: S608 - constants
KEYS = f"""
SELECT aggregatetype, aggregateid, max(version) FROM ({WHOLE}) AS message
GROUP BY aggregatetype, aggregateid
"""  # noqa: S608 - constants
PASSED = "SELECT highest_position FROM outbox.relay WHERE name = 'main'"


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
            await cursor.execute(PAGE.encode(), selected | bounds)
            return sorted(Row._make(row) for row in await cursor.fetchall())


async def preview_replay(
    connection: psycopg.AsyncConnection[Any], selection: ReplaySelection, on_progress: OnProgress
) -> ReplayPreview:
    """Count the selection, chunk by chunk; `on_progress` gets positions read, and of how many."""
    counts: Counter[RangeKind] = Counter()
    times: list[datetime] = []
    selection = await end_at_relay(connection, selection)
    async for rows in _read_chunks(connection, selection, COUNT, on_progress):
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
        connection, await end_at_relay(connection, selection), KEYS, on_progress
    ):
        for aggregate, key, version in rows:
            found[aggregate, key] = max(version, found.get((aggregate, key), 0))
    return found


async def end_at_relay(
    connection: psycopg.AsyncConnection[Any], selection: ReplaySelection
) -> ReplaySelection:
    """Return the selection, ended at the relay's position: what comes later is not replayed."""
    row = await (await connection.execute(PASSED)).fetchone()
    passed = row[0] if row else 0
    return replace(selection, last_position=min(selection.last_position, passed))


async def find_chunk_end(
    connection: psycopg.AsyncConnection[Any], selection: ReplaySelection, behind: int
) -> int:
    """Return the position CHUNK_ROWS rows above `behind`, or the selection's last one."""
    parameters = {"behind": behind, "last": selection.last_position, "rows": CHUNK_ROWS}
    async with planned_transaction(connection):
        row = await (await connection.execute(END, parameters)).fetchone()
    return int(row[0]) if row else selection.last_position


async def _read_chunks(
    connection: psycopg.AsyncConnection[Any],
    selection: ReplaySelection,
    statement: str,
    on_progress: OnProgress,
) -> AsyncGenerator[list[Any], None]:
    """Yield the statement's rows of one chunk of positions after another."""
    behind = selection.first_position - 1
    while behind < selection.last_position:
        upto = await find_chunk_end(connection, selection, behind)
        async with planned_transaction(connection):
            parameters = selection.parameters(behind, upto)
            yield await (await connection.execute(statement.encode(), parameters)).fetchall()
        behind = upto
        on_progress(
            behind - selection.first_position, selection.last_position - selection.first_position
        )
