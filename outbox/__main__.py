"""`python -m outbox migrate | topics | relay | status`."""

import json as to_json
from typing import Annotated

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from outbox.kafka import create_topics
from outbox.migrate import migrate as run_migrations
from outbox.migrate import outbox_migrations
from outbox.process import answer, run_role
from outbox.relay import Relay
from outbox.settings import Settings
from outbox.status import Status, read_status
from schemas.registry import REGISTRY

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]


@app.command()
def migrate() -> None:
    """Apply the outbox's migrations that are missing; safe to repeat and to run twice at once."""
    settings = Settings()
    applied = answer(settings, run_migrations(settings.libpq_url(), outbox_migrations()))
    typer.echo(f"{len(applied)} migrations applied")


@app.command()
def topics(
    partitions: Annotated[int, typer.Option(min=1, help="Of each new topic.")] = 4,
    replication: Annotated[int, typer.Option(min=1, help="Replicas of each partition.")] = 1,
    json: Json = False,
) -> None:
    """Create the topics of all known messages that are missing; existing ones are left alone."""
    settings = Settings()
    names = REGISTRY.topics()
    created = answer(settings, create_topics(settings.kafka_url, names, partitions, replication))
    existing = [name for name in names if name not in created]
    if json:
        typer.echo(to_json.dumps({"created": created, "existing": existing}))
    else:
        typer.echo(f"{len(created)} topics created, {len(existing)} existed")


@app.command()
def relay() -> None:
    """Publish committed messages to Kafka until SIGTERM; stand by while another relay leads."""
    settings = Settings()
    publishing = Relay(settings)
    run_role(settings, publishing.run, publishing.stop)


@app.command()
def status(json: Json = False) -> None:
    """Show what is pending, who relays, and what is dead or parked."""
    settings = Settings()
    reading = answer(settings, _read(settings.libpq_url()))
    if json:
        typer.echo(reading.model_dump_json())
    else:
        Console().print(_table(reading))


async def _read(url: str) -> Status:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await read_status(connection)


def _table(reading: Status) -> Table:
    table = Table("outbox", "value")
    for name, value in reading:
        table.add_row(name.replace("_", " "), str(value))
    return table


if __name__ == "__main__":
    app()
