"""What several commands share: their options, and a store with a connection to PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import psycopg
import typer

from consumers.drift.check import CheckOptions, Drift, open_check
from consumers.installed import PROJECTIONS
from consumers.projections.projection import Projection
from consumers.settings import Settings
from outbox.cli.options.number import MAX_NUMBER, MAX_WAIT_SECONDS, refuse_nan
from outbox.cli.progress_bar import show_progress
from outbox.errors import translate_errors
from outbox.escape import escape
from outbox.postgres.connection import connect_command

Only = Annotated[
    list[str] | None,
    typer.Option("--projection", help=f"One of {', '.join(PROJECTIONS)}; repeatable. Else all."),
]
Patience = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=MAX_WAIT_SECONDS,
        callback=refuse_nan,
        help="Seconds that a message may be under way.",
    ),
]
Limit = Annotated[
    int, typer.Option(min=0, max=MAX_NUMBER, help="Keys of each kind to show; counts are exact.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only report what would be touched.")]

Connection = psycopg.AsyncConnection[Any]


def choose_projections(names: list[str] | None) -> list[str]:
    """Return the projections that were named, or all; BadParameter if one is not known."""
    for unknown in set(names or ()) - PROJECTIONS.keys():
        raise typer.BadParameter(f"{escape(unknown)}: must be one of {', '.join(PROJECTIONS)}")
    return list(dict.fromkeys(names or PROJECTIONS))


def build_check_options(settings: Settings, patience_seconds: float | None) -> CheckOptions:
    """How a check goes about it; a patience of None is the setting's."""
    patience = settings.drift_patience_seconds if patience_seconds is None else patience_seconds
    return CheckOptions(patience_seconds=patience, run_rows=settings.drift_run_keys)


@asynccontextmanager
async def open_projection(
    settings: Settings, name: str
) -> AsyncIterator[tuple[Connection, Projection]]:
    """Open a store, and a connection in autocommit; DependencyDown if either is away."""
    with translate_errors():
        async with (
            PROJECTIONS[name](settings) as store,
            await connect_command(settings, "drift") as connection,
        ):
            yield connection, store


@asynccontextmanager
async def open_drift(
    settings: Settings, name: str, options: CheckOptions, *, quiet: bool
) -> AsyncIterator[tuple[Connection, Projection, Drift]]:
    """Check a store, and hold it open with what differs; progress is shown unless `quiet`.

    DependencyDown if the store or PostgreSQL is away.
    """
    with show_progress(f"{name} keys read", quiet=quiet) as on_progress:
        async with (
            open_projection(settings, name) as (connection, store),
            open_check(connection, store, options, on_progress) as drift,
        ):
            yield connection, store, drift
