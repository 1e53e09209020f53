"""Watch: check one store for drift again and again, at a rate that disturbs nobody.

Each round ends in a WatchRound: exact counts, or the error that prevented them. A store that could
not be compared has no counts at all, and never zeros.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from consumers.drift.check import CheckOptions, open_check
from consumers.projections.projection import Projection
from outbox.errors import OutboxError
from outbox.streams.difference import DifferenceKind

OpenStore = Callable[
    [], AbstractAsyncContextManager[tuple[psycopg.AsyncConnection[Any], Projection]]
]


@dataclass(frozen=True, slots=True)
class WatchRound:
    """What one round found. `counts` is None where there was an `error`.

    `heads` is how many keys PostgreSQL has, and `shown` how many the store has.
    """

    projection: str
    counts: dict[DifferenceKind, int] | None = None
    heads: int = 0
    shown: int = 0
    seconds: float = 0.0
    error: str | None = None


class Watch:
    """Checks one projection again and again; `on_progress` is called after each round.

    `open_store` opens a connection and a store for each round, so that neither has to live for
    ever. `pause_seconds` is the time between two rounds.
    """

    def __init__(
        self,
        projection: str,
        open_store: OpenStore,
        options: CheckOptions,
        pause_seconds: float,
        on_progress: Callable[[WatchRound], None],
    ) -> None:
        self._projection = projection
        self._open_store = open_store
        self._options = options
        self._pause_seconds = pause_seconds
        self._report = on_progress
        self._stopping = asyncio.Event()
        self._rounds: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Cancel the round that is going on, and end: a check only reads."""
        self._stopping.set()
        if self._rounds is not None:
            self._rounds.cancel()

    async def run(self) -> None:
        """Run rounds until stopped. A round that fails is reported, and the next one follows."""
        self._rounds = asyncio.create_task(self._run_rounds())
        with suppress(asyncio.CancelledError):
            await self._rounds

    async def _run_rounds(self) -> None:
        while not self._stopping.is_set():
            self._report(await self._run_round())
            await asyncio.sleep(self._pause_seconds)

    async def _run_round(self) -> WatchRound:
        try:
            async with (
                self._open_store() as (connection, store),
                open_check(connection, store, self._options) as drift,
            ):
                counts, seconds = dict(drift.counts), round(drift.seconds, 3)
                return WatchRound(self._projection, counts, drift.heads, drift.shown, seconds)
        except OutboxError as error:
            return WatchRound(self._projection, error=str(error))
