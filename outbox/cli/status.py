"""`python -m outbox status`."""

import psycopg
import typer

from outbox.cli.console import Json, print_table
from outbox.process import answer
from outbox.settings import Settings
from outbox.status import Status, read_status


def status(json: Json = False) -> None:
    """Show what is pending, who relays, and what is dead or parked."""
    settings = Settings()
    reading = answer(settings, _read(settings.libpq_url()))
    if json:
        typer.echo(reading.model_dump_json())
    else:
        rows = [(name.replace("_", " "), value) for name, value in reading]
        print_table(("outbox", "value"), rows)


async def _read(url: str) -> Status:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await read_status(connection)
