"""Readers with the usual bugs, planted to prove that the harness sees them."""

import asyncio
from typing import Any, ClassVar

import psycopg

from consumers.settings import Settings
from outbox.cursor.cut import COLUMNS, CutReader, Row
from outbox.kafka import Publisher
from outbox.relay.renderer import Renderer


class PlantedReader:
    """Reads the rows of `query` above its cursor, which moves to the highest of the last column."""

    query: ClassVar[str]

    def __init__(self) -> None:
        self._cursor = 0

    async def read(self, connection: psycopg.AsyncConnection[Any]) -> list[Row]:
        """The new rows, in the order in which they are to be published."""
        fetched = await connection.execute(self.query.encode(), [self._cursor], binary=True)
        found = await fetched.fetchall()
        self._cursor = max([self._cursor, *(row[-1] for row in found)])
        return [Row._make(row[:-1]) for row in found]


class PositionCursor(PlantedReader):
    """M01: it keeps the highest position, so a lower one that commits later is skipped."""

    query = f"""
        SELECT {COLUMNS.decode()}, position FROM outbox.messages WHERE position > %s::bigint
        ORDER BY position
    """  # noqa: S608 - constants only


class TransactionHorizon(PlantedReader):
    """M02: it publishes all below the oldest running transaction, ordered by transaction.

    A transaction may take its id early and lock a key late, so this order is not commit order; and
    any writer that stays open stalls it.
    """

    query = f"""
        SELECT {COLUMNS.decode()}, transaction_id::text::bigint FROM outbox.messages
        WHERE transaction_id > (%s::bigint)::text::xid8
          AND transaction_id < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY transaction_id, position
    """  # noqa: S608 - constants only


class PlantedRelay:
    """Publishes what a planted reader reads, with the real publisher and renderer."""

    def __init__(self, settings: Settings, reader: PlantedReader) -> None:
        self._settings = settings
        self._reader = reader

    async def run(self) -> None:
        """Run until cancelled."""
        renderer = Renderer(term=1)
        async with (
            await psycopg.AsyncConnection.connect(
                self._settings.libpq_url(), autocommit=True
            ) as connection,
            Publisher(self._settings.kafka_url, 10.0) as publisher,
        ):
            await CutReader(connection, 1, 1).prepare()
            while True:
                rows = await self._reader.read(connection)
                await publisher.send(map(renderer.render, rows))
                await asyncio.sleep(0.002)
