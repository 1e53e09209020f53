"""ReplaySource: the messages that a replay says again, in the order of their positions.

Only what is published: the relay's cursor shows it, so its broker has acknowledged it, and a
repetition is a duplicate by id. What the relay has not published yet is on its way by itself; what
it has parked waits; what a person has discarded was never said, and must not be said late. Messages
come from outbox.messages, and from outbox.kept where retention has dropped their day: of such days
only each key's latest message is left.

Weakness: nothing but positions has an index, so a selection by key, type or time reads the whole
range of positions, a chunk at a time.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg.types.string import ByteaBinaryLoader

from outbox.cursor.cut import COLUMNS, HIGHEST, Row
from outbox.postgres.transactions import planned_transaction

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
# What a person discarded was parked before, and is nowhere now but in the operation's details.
DISCARDED = """
    SELECT (key->>'position')::bigint
    FROM outbox.operations, jsonb_array_elements(details->'keys') AS key
    WHERE action = 'parked discard'
"""
# One statement, so that all of it is true at one moment: the relay moves its cursor and parks what
# was refused in one transaction, and so does a person who discards. LIMITED stands where a page
# says how much it takes of either: so an index gives the rows in order, and no chunk is sorted.
PUBLISHED = f"""
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
   AND message.position NOT IN ({DISCARDED}) LIMITED)
UNION ALL
(SELECT message.position, topic, aggregateid, aggregatetype, id, type, version, payload, headers,
        created_at
 FROM outbox.kept AS message
 WHERE {SELECTED}
   AND NOT EXISTS (SELECT FROM outbox.messages AS same WHERE same.position = message.position)
   AND message.position NOT IN ({DISCARDED}) LIMITED)
"""  # noqa: S608 - constants
WHOLE = PUBLISHED.replace("LIMITED", "")
LIMITED = PUBLISHED.replace("LIMITED", "ORDER BY message.position LIMIT %(limit)s")
# Where a chunk ends: so many rows on, whether they are selected or not.
END = """
SELECT position FROM (
    (SELECT position FROM outbox.messages
     WHERE position > %(behind)s AND position <= %(last)s ORDER BY position LIMIT %(rows)s)
    UNION ALL
    (SELECT position FROM outbox.kept
     WHERE position > %(behind)s AND position <= %(last)s ORDER BY position LIMIT %(rows)s)
) AS row ORDER BY position OFFSET %(rows)s - 1 LIMIT 1
"""
# As a cut's page: it ends at the row that fills it.
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
    """Which messages: all that fit every part; a part that is None fits any."""

    aggregates: list[str] | None = None
    keys: list[str] | None = None
    types: list[str] | None = None
    topics: list[str] | None = None
    since: datetime | None = None
    before: datetime | None = None
    first_position: int = 0
    last_position: int = HIGHEST

    def parameters(self, behind: int, upto: int) -> dict[str, Any]:
        """Of the statements above, for positions above `behind`, up to `upto`."""
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
    """What a selection holds now, and up to which position; times are those of the messages."""

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
    """Rows in order, perhaps none; all that is selected up to `position` is done with them."""

    rows: list[Row]
    position: int


OnProgress = Callable[[int, int], None]


class ReplaySource:
    """Reads one selection over one connection in autocommit, from behind `position` on.

    A page has at most `messages` rows, and but for its last row less than `page_bytes`.
    """

    def __init__(
        self,
        connection: psycopg.AsyncConnection[Any],
        selection: ReplaySelection,
        position: int,
        page_bytes: int,
    ) -> None:
        connection.adapters.register_loader("text", ByteaBinaryLoader)  # as the relay reads them
        self._connection = connection
        self._selection = selection
        self._position = position
        self._bytes = page_bytes
        self._chunk_end = position

    async def page(self, messages: int) -> ReplayPage | None:
        """What comes next; None at the end. A page without rows is one chunk of other messages."""
        if self._position >= self._selection.last_position:
            return None
        if self._position >= self._chunk_end:
            self._chunk_end = await find_chunk_end(
                self._connection, self._selection, self._position
            )
        rows = await self._rows(messages)
        whole = len(rows) < messages and sum(len(r.payload or b"") for r in rows) < self._bytes
        self._position = self._chunk_end if whole else rows[-1].position
        return ReplayPage(rows, self._position)

    async def _rows(self, messages: int) -> list[Row]:
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
    """Count it, chunk by chunk; `tell` hears the position and the last one."""
    counts: Counter[RangeKind] = Counter()
    times: list[datetime] = []
    selection = await end_at_relay(connection, selection)
    async for rows in _chunks(connection, selection, COUNT, on_progress):
        for topic, type_, messages, first, last in rows:
            counts[RangeKind(topic, type_)] += messages
            times += [first, last]
    ends = (min(times), max(times)) if times else (None, None)
    return ReplayPreview(dict(sorted(counts.items())), selection.last_position, *ends)


async def read_selected_keys(
    connection: psycopg.AsyncConnection[Any], selection: ReplaySelection, on_progress: OnProgress
) -> dict[tuple[str, str], int]:
    """The highest selected version of each key; about 300 bytes a key in memory."""
    found: dict[tuple[str, str], int] = {}
    async for rows in _chunks(
        connection, await end_at_relay(connection, selection), KEYS, on_progress
    ):
        for aggregate, key, version in rows:
            found[aggregate, key] = max(version, found.get((aggregate, key), 0))
    return found


async def end_at_relay(
    connection: psycopg.AsyncConnection[Any], selection: ReplaySelection
) -> ReplaySelection:
    """The same, ended where the relay is: what comes later is not said again."""
    row = await (await connection.execute(PASSED)).fetchone()
    passed = row[0] if row else 0
    return replace(selection, last_position=min(selection.last_position, passed))


async def find_chunk_end(
    connection: psycopg.AsyncConnection[Any], selection: ReplaySelection, behind: int
) -> int:
    parameters = {"behind": behind, "last": selection.last_position, "rows": CHUNK_ROWS}
    async with planned_transaction(connection):
        row = await (await connection.execute(END, parameters)).fetchone()
    return int(row[0]) if row else selection.last_position


async def _chunks(
    connection: psycopg.AsyncConnection[Any],
    selection: ReplaySelection,
    statement: str,
    on_progress: OnProgress,
) -> AsyncGenerator[list[Any], None]:
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
