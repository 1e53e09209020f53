"""A projection into one SQLite table, complete; docs/projections.md explains it."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from typing import Any

from consumers.projections.divergence import refuse_divergent, split_divergent
from consumers.projections.projection import Change, Entry, EventIdentity, StreamKey, keep_latest
from outbox.errors import DependencyDown

TABLE = """CREATE TABLE IF NOT EXISTS items
    (aggregate, key, version, event_id, digest, deleted, body, PRIMARY KEY (aggregate, key))"""
WRITE = """INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET version = excluded.version, event_id = excluded.event_id,
        digest = excluded.digest, deleted = excluded.deleted, body = excluded.body
    WHERE excluded.version > version -- the fence: the statement that writes also compares"""
SCAN = "SELECT aggregate, key, version, event_id, digest, deleted FROM items"
READ = SCAN + " WHERE (aggregate, key) = (?, ?)"
DELETE = "DELETE FROM items WHERE (aggregate, key, version, digest, deleted) = (?, ?, ?, ?, ?)"


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
        stored = {StreamKey(*row[:2]): EventIdentity(*row[2:5]) for row in rows}
        new, divergences = split_divergent(changes, stored)
        heads = keep_latest(new)
        self._run(WRITE, [(*c.stream, *c.identity, c.deleted, c.event.payload()) for c in heads])
        refuse_divergent(self.name, divergences)

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        return {entry.stream: entry for entry in self._read_entries(READ, streams)}

    async def scan(self) -> AsyncIterator[Entry]:
        for entry in self._read_entries(SCAN, [()]):
            yield entry

    async def delete_if_unchanged(self, entries: Sequence[Entry]) -> None:
        self._run(DELETE, [(*e.stream, e.version, e.digest, e.deleted) for e in entries])

    def _read_entries(self, query: str, each: Sequence[Sequence[Any]]) -> list[Entry]:
        return [Entry(StreamKey(*r[:2]), r[2], r[4], bool(r[5])) for r in self._run(query, each)]

    def _run(self, statement: str, each: Sequence[Sequence[Any]]) -> list[Any]:
        try:
            with self._database as transaction:
                return [row for values in each for row in transaction.execute(statement, values)]
        except sqlite3.OperationalError as error:  # locked, full, away: wait, and try again
            raise DependencyDown("sqlite", error) from error
