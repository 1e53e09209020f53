"""`python -m consumers drift`."""

import json as to_json

import typer

from consumers.assembly import PROJECTIONS, Assemble
from consumers.drift import check
from consumers.settings import Settings
from outbox.cli.console import Json, print_table
from outbox.process import answer
from outbox.relay import connect
from outbox.streams import Difference, StreamKey


def drift(projection: str, json: Json = False) -> None:
    """Compare a projection's store with PostgreSQL; exit code 1 when keys differ."""
    if projection not in PROJECTIONS:
        raise typer.BadParameter(f"must be one of {', '.join(PROJECTIONS)}")
    settings = Settings()
    difference = answer(settings, _check(settings, PROJECTIONS[projection]))
    counts = {kind: len(keys) for kind, keys in _kinds(difference).items()}
    if json:
        keys = {kind: [stream.key for stream in keys] for kind, keys in _kinds(difference).items()}
        typer.echo(to_json.dumps({"counts": counts, "keys": keys}))
    else:
        print_table(("drift", "value"), counts.items())
    raise typer.Exit(1 if difference.keys else 0)


async def _check(settings: Settings, assemble: Assemble) -> Difference:
    async with assemble(settings) as projection, await connect(settings) as connection:
        return await check(connection, projection)


def _kinds(difference: Difference) -> dict[str, list[StreamKey]]:
    return {
        "missing": difference.missing,
        "stale": difference.stale,
        "orphaned": difference.orphaned,
        "different": difference.different,
    }
