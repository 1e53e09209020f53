"""`python -m consumers drift check | repair | watch`; `check` stands here."""

from collections.abc import Iterable
from dataclasses import asdict
from time import monotonic

import psycopg
import typer

from consumers.cli.drift_report import (
    LIMIT,
    DriftSummary,
    print_summary,
    summarize_drift,
    summarize_rows,
)
from consumers.cli.options import (
    Limit,
    Only,
    Patience,
    build_check_options,
    choose_projections,
    open_drift,
)
from consumers.cli.repair import repair_command
from consumers.cli.watch import watch_command
from consumers.drift.check import CheckOptions
from consumers.installed import load_own_rows
from consumers.settings import Settings
from outbox.cli.console import Json
from outbox.errors import OutboxError, translate_errors
from outbox.postgres.connection import connect_command
from outbox.runtime.lifecycle import EXIT_UNANSWERED, answer, calm_the_collector
from outbox.runtime.output import complain, say_json
from outbox.streams.own_rows import OwnRows

EXIT_DIFFERS = 1

app = typer.Typer(
    no_args_is_help=True, help="Keys of a store that do not show what PostgreSQL says."
)
app.command("repair")(repair_command)
app.command("watch")(watch_command)


@app.command("check")
def check_command(
    projection: Only = None, patience: Patience = None, limit: Limit = LIMIT, json: Json = False
) -> None:
    """Compare stores with PostgreSQL, key by key, also while writers go on.

    Where no store is named, the services' own rows are compared with the stream heads, too: whether
    a row was deleted, inserted or altered by hand. Exit code 1 when keys differ, 2 when a store
    could not be compared.
    """
    settings, names = Settings(), choose_projections(projection)
    calm_the_collector()
    options = build_check_options(settings, patience)
    rows = () if projection else load_own_rows()
    all_found = answer(settings, _check_all(settings, names, rows, options, limit, quiet=json))
    if json:
        say_json({each.projection: asdict(each) for each in all_found})
    else:
        print_summary(all_found)
    raise typer.Exit(_exit_code(all_found))


def _exit_code(all_found: list[DriftSummary]) -> int:
    """A projection that could not be compared never counts as in sync."""
    if any(each.error for each in all_found):
        return EXIT_UNANSWERED
    return EXIT_DIFFERS if any(each.keys for each in all_found) else 0


async def _check_all(
    settings: Settings,
    names: list[str],
    rows: Iterable[OwnRows],
    options: CheckOptions,
    limit: int,
    *,
    quiet: bool,
) -> list[DriftSummary]:
    """Check one after the other; one that fails does not keep the others from being compared."""
    stores = [await _check(settings, name, options, limit, quiet=quiet) for name in names]
    return [*stores, *[await _check_rows(settings, each, limit) for each in rows]]


async def _check_rows(settings: Settings, rows: OwnRows, limit: int) -> DriftSummary:
    started = monotonic()
    try:
        with translate_errors():
            async with await connect_command(settings, "drift") as connection:
                difference = await rows.compare(connection, limit)
    except (OutboxError, psycopg.errors.UndefinedTable) as error:
        is_translated = isinstance(error, OutboxError)
        missing = "has no tables here; run `python -m services migrate`"
        why = str(error) if is_translated else missing
        complain(f"{rows.name}: {why}")
        return DriftSummary(rows.name, error=why)
    return summarize_rows(rows.name, difference, monotonic() - started)


async def _check(
    settings: Settings, name: str, options: CheckOptions, limit: int, *, quiet: bool
) -> DriftSummary:
    try:
        async with open_drift(settings, name, options, quiet=quiet) as (_, _, drift):
            return summarize_drift(drift, limit)
    except OutboxError as error:
        complain(f"{name}: {error}")
        return DriftSummary(name, error=str(error))
