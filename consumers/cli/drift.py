"""`python -m consumers drift check`."""

import json as to_json
from dataclasses import asdict
from typing import Annotated, Any

import psycopg
import typer

from consumers.assembly import PROJECTIONS
from consumers.cli.found import LIMIT, Found, found, print_found
from consumers.drift import Care, checked
from consumers.settings import Settings
from outbox.cli.bar import progress
from outbox.cli.console import Json
from outbox.errors import OutboxError, translated
from outbox.process import answer, calm_the_collector
from outbox.relay import connect

EXIT_DIFFERS = 1
EXIT_UNANSWERED = 2

app = typer.Typer(
    no_args_is_help=True, help="Keys of a store that do not show what PostgreSQL says."
)

Only = Annotated[
    list[str] | None,
    typer.Option("--projection", help=f"One of {', '.join(PROJECTIONS)}; repeatable. Else all."),
]
Limit = Annotated[int, typer.Option(min=0, help="Keys of each kind to show; counts are exact.")]
Patience = Annotated[
    float | None, typer.Option(min=0, help="Seconds that a message may be under way.")
]

Connection = psycopg.AsyncConnection[Any]


@app.command("check")
def check_command(
    projection: Only = None, patience: Patience = None, limit: Limit = LIMIT, json: Json = False
) -> None:
    """Compare stores with PostgreSQL, key by key, also while writers go on.

    Exit code 1 when keys differ, 2 when a store could not be compared.
    """
    settings = Settings()
    names = chosen(projection)
    calm_the_collector()
    all_found = answer(settings, _check_all(settings, names, patience, limit, quiet=json))
    if json:
        typer.echo(to_json.dumps({each.projection: asdict(each) for each in all_found}))
    else:
        print_found(all_found)
    raise typer.Exit(exit_code(all_found))


def chosen(names: list[str] | None) -> list[str]:
    """The projections that were named, or all."""
    for unknown in set(names or ()) - PROJECTIONS.keys():
        raise typer.BadParameter(f"{unknown}: must be one of {', '.join(PROJECTIONS)}")
    return list(dict.fromkeys(names or PROJECTIONS))


def exit_code(all_found: list[Found]) -> int:
    """What could not be compared is never in sync."""
    if any(each.error for each in all_found):
        return EXIT_UNANSWERED
    return EXIT_DIFFERS if any(each.keys for each in all_found) else 0


def care_of(settings: Settings, patience_seconds: float | None) -> Care:
    patience = settings.drift_patience_seconds if patience_seconds is None else patience_seconds
    return Care(patience_seconds=patience, run_rows=settings.drift_run_keys)


async def _check_all(
    settings: Settings, names: list[str], patience: float | None, limit: int, *, quiet: bool
) -> list[Found]:
    """One after the other; one that fails does not keep the others from being compared."""
    care = care_of(settings, patience)
    return [await _check(settings, name, care, limit, quiet=quiet) for name in names]


async def _check(settings: Settings, name: str, care: Care, limit: int, *, quiet: bool) -> Found:
    try:
        with translated(), progress(f"{name} keys read", quiet=quiet) as tell:
            async with (
                PROJECTIONS[name](settings) as store,
                await connect(settings, "drift") as connection,
                checked(connection, store, care, tell) as drift,
            ):
                return found(drift, limit)
    except OutboxError as error:
        typer.echo(f"{name}: {error}", err=True)
        return Found(name, error=str(error))
