"""`python -m outbox migrate | relay | status`."""

import asyncio
from typing import Annotated

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from outbox import logs
from outbox.migrate import migrate as run_migrations
from outbox.migrate import outbox_migrations
from outbox.process import run_role
from outbox.relay import Relay
from outbox.settings import Settings
from outbox.status import Status, read_status

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]


@app.command()
def migrate() -> None:
    """Apply the outbox's migrations that are missing; safe to repeat and to run twice at once."""
    settings = Settings()
    logs.configure(settings.log_format, settings.log_level)
    applied = asyncio.run(run_migrations(settings.libpq_url(), outbox_migrations()))
    typer.echo(f"{len(applied)} migrations applied")


@app.command()
def relay() -> None:
    """Publish committed messages to Kafka until SIGTERM; stand by while another relay leads."""
    settings = Settings()
    publishing = Relay(settings)
    run_role(settings, publishing.run, publishing.stop)


@app.command()
def status(json: Json = False) -> None:
    """Show what is pending, who relays, and what is dead or parked."""
    reading = asyncio.run(_read(Settings().libpq_url()))
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
