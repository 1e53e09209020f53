"""`python -m consumers drift watch`."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import structlog
import typer

from consumers.cli.options import (
    Only,
    Patience,
    build_check_options,
    choose_projections,
    open_projection,
)
from consumers.drift.watch import Watch, WatchRound
from consumers.settings import Settings
from outbox.cli.options.number import MAX_RATE, MAX_WAIT_SECONDS, refuse_nan
from outbox.runtime.lifecycle import run_role
from outbox.runtime.output import say_json

log = structlog.get_logger()

Rate = Annotated[
    float | None,
    typer.Option(
        min=0.1, max=MAX_RATE, callback=refuse_nan, help="Keys of a store to read a second."
    ),
]
Pause = Annotated[
    float | None,
    typer.Option(
        min=0, max=MAX_WAIT_SECONDS, callback=refuse_nan, help="Seconds between two rounds."
    ),
]


def watch_command(
    projection: Only = None, rate: Rate = None, pause: Pause = None, patience: Patience = None
) -> None:
    """Compare stores with PostgreSQL for ever, at a rate, until SIGTERM.

    Each round is a log line, and a line of JSON on standard output for a collector of metrics.
    """
    settings, names = Settings(), choose_projections(projection)
    per_second = settings.drift_keys_per_second if rate is None else rate
    options = replace(build_check_options(settings, patience), keys_per_second=per_second)
    seconds = settings.drift_pause_seconds if pause is None else pause
    watches: list[Watch] = []

    async def main() -> None:
        watches.extend(
            Watch(name, partial(open_projection, settings, name), options, seconds, on_progress)
            for name in names
        )
        async with asyncio.TaskGroup() as group:
            for watch in watches:
                group.create_task(watch.run())

    def stop() -> None:
        for watch in watches:
            watch.stop()

    run_role(settings, main, stop)


def on_progress(done: WatchRound) -> None:
    """Log a round and print it as JSON.

    Drift is logged as a warning and a round without an answer as an error; alerts rely on that.
    """
    line = _as_json(done)
    level = "error" if done.error else "warning" if any((done.counts or {}).values()) else "info"
    getattr(log, level)("drift", **line)
    say_json(line)


def _as_json(done: WatchRound) -> dict[str, Any]:
    """The counts by their names, or the error if there are no counts."""
    if done.counts is None:
        return {"projection": done.projection, "error": done.error}
    counts = {kind.value: count for kind, count in done.counts.items()}
    keys = {"keys": done.heads, "shown": done.shown}
    return {"projection": done.projection, **keys, **counts, "seconds": done.seconds}
