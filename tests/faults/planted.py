"""Relays with the usual bugs, planted to prove that the harness sees them."""

import asyncio

import psycopg

from consumers.settings import Settings
from outbox.cut import COLUMNS, CutReader, Row
from outbox.kafka import Publisher
from outbox.record import Renderer


class PlantedRelay:
    """Publishes what `fetch` selects, in its order, with the real publisher and renderer."""

    query: str
    start: int = 0

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def next_cursor(self, rows: list[Row], last: int) -> int:
        raise NotImplementedError

    async def run(self) -> None:
        """Until cancelled."""
        renderer = Renderer(term=1)
        async with (
            await psycopg.AsyncConnection.connect(
                self._settings.libpq_url(), autocommit=True
            ) as connection,
            Publisher(self._settings.kafka_url, 10.0) as publisher,
        ):
            await CutReader(connection, 1, 1).prepare()
            cursor = self.start
            while True:
                fetched = await connection.execute(self.query.encode(), [cursor], binary=True)
                rows = [Row._make(row) for row in await fetched.fetchall()]
                await publisher.send(map(renderer.record, rows))
                cursor = self.next_cursor(rows, cursor)
                await asyncio.sleep(0.002)


class PositionCursor(PlantedRelay):
    """M01: remembers the highest position; a lower one that commits later is skipped."""

    query = f"SELECT {COLUMNS} FROM outbox.messages WHERE position > %s ORDER BY position"  # noqa: S608 - constants only

    def next_cursor(self, rows: list[Row], last: int) -> int:
        return rows[-1].position if rows else last


class TransactionHorizon(PlantedRelay):
    """M02: publishes below the oldest running transaction, ordered by transaction.

    A transaction may take its id early and lock a key late, so this order is not commit order; and
    any writer that stays open stalls it.
    """

    query = f"""
        SELECT {COLUMNS} FROM outbox.messages
        WHERE transaction_id::text::bigint > %s
          AND transaction_id < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY transaction_id, position
    """  # noqa: S608 - constants only

    def next_cursor(self, rows: list[Row], last: int) -> int:
        if not rows:
            return last
        with psycopg.connect(self._settings.libpq_url()) as connection:
            row = connection.execute(
                "SELECT max(transaction_id::text::bigint) FROM outbox.messages"
                " WHERE position = ANY (%s)",
                [[row.position for row in rows]],
            ).fetchone()
        assert row is not None
        return int(row[0])
