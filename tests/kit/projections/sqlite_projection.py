"""A projection into one SQLite table, complete; docs/projections.md explains it."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from typing import Any

from consumers.projections.divergence import refuse_divergent, split_divergent
from consumers.projections.projection import Change, Entry, EventIdentity, StreamKey, keep_latest
from outbox.errors import DependencyDown

TABLE = """CREATE TABLE IF NOT EXISTS items
    (aggregate, key, version, event_id, digest, deleted, body, PRIMARY KEY (aggregate, key))"""
# The fence: to compare and to write is one statement, so that nobody comes between.
WRITE = """INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET version = excluded.version, event_id = excluded.event_id,
        digest = excluded.digest, deleted = excluded.deleted, body = excluded.body
    WHERE excluded.version > version"""
SCAN = "SELECT aggregate, key, version, event_id, digest, deleted FROM items"
READ = SCAN + " WHERE (aggregate, key) = (?, ?)"
FORGET = "DELETE FROM items WHERE (aggregate, key, version, digest, deleted) = (?, ?, ?, ?, ?)"


class SqliteProjection:
    name = "sqlite"
    aggregates = frozenset({"catalog.item"})
    topics = ("catalog.item.events",)

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path)

    async def prepare(self) -> None:
        self._run(TABLE, [()])

    async def apply(self, changes: Sequence[Change]) -> None:
        rows = self._run(READ, [change.stream for change in changes])
        new, divergences = split_divergent(
            changes, {StreamKey(*r[:2]): EventIdentity(*r[2:5]) for r in rows}
        )
        self._run(
            WRITE,
            [(*c.stream, *c.identity, c.deleted, c.event.payload()) for c in keep_latest(new)],
        )
        refuse_divergent(self.name, divergences)

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        return {StreamKey(*row[:2]): _entry(*row) for row in self._run(READ, streams)}

    async def scan(self) -> AsyncIterator[Entry]:
        for row in self._run(SCAN, [()]):
            yield _entry(*row)

    async def delete_if_unchanged(self, entries: Sequence[Entry]) -> None:
        self._run(FORGET, [(*e.stream, e.version, e.digest, e.deleted) for e in entries])

    def _run(self, statement: str, each: Sequence[Sequence[Any]]) -> list[Any]:
        try:
            with self._database as transaction:
                return [row for values in each for row in transaction.execute(statement, values)]
        except sqlite3.OperationalError as error:  # locked, full, away: wait, and try again
            raise DependencyDown("sqlite", error) from error


def _entry(aggregate: str, key: str, version: int, _: str, digest: str, deleted: int) -> Entry:
    return Entry(StreamKey(aggregate, key), version, digest, bool(deleted))
