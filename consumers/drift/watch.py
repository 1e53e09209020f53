"""Watch: drift as a figure to look at, round after round, at a rate that disturbs nobody.

Each round ends in a Round: four exact counts, or the error that kept it from having any; a store
that could not be compared has no counts at all, and never zeros.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from consumers.drift.check import Care, open_check
from consumers.projections.projection import Projection
from outbox.errors import OutboxError
from outbox.streams.difference import DifferenceKind

Open = Callable[[], AbstractAsyncContextManager[tuple[psycopg.AsyncConnection[Any], Projection]]]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round found. `counts` is None where there was an `error`."""

    projection: str
    counts: dict[DifferenceKind, int] | None = None
    heads: int = 0
    shown: int = 0
    seconds: float = 0.0
    error: str | None = None


class Watch:
    """Checks one projection again and again; `tell` hears of each round.

    A store and a connection are opened for each round, so that neither has to live for ever.
    """

    def __init__(
        self,
        projection: str,
        opened: Open,
        care: Care,
        pause_seconds: float,
        on_progress: Callable[[Round], None],
    ) -> None:
        self._projection = projection
        self._opened = opened
        self._care = care
        self._pause_seconds = pause_seconds
        self._report = on_progress
        self._stopping = asyncio.Event()
        self._rounds: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Leave the round that is going on: a check only reads."""
        self._stopping.set()
        if self._rounds is not None:
            self._rounds.cancel()

    async def run(self) -> None:
        """Until stopped; failures of any part are told, and tried again after the pause."""
        self._rounds = asyncio.create_task(self._round_after_round())
        with suppress(asyncio.CancelledError):
            await self._rounds

    async def _round_after_round(self) -> None:
        while not self._stopping.is_set():
            self._report(await self._round())
            await asyncio.sleep(self._pause_seconds)

    async def _round(self) -> Round:
        try:
            async with (
                self._opened() as (connection, store),
                open_check(connection, store, self._care) as drift,
            ):
                counts, seconds = dict(drift.counts), round(drift.seconds, 3)
                return Round(self._projection, counts, drift.heads, drift.shown, seconds)
        except OutboxError as error:
            return Round(self._projection, error=str(error))
