"""`python -m outbox status`."""

import typer

from outbox.cli.console import Json, ask, print_table
from outbox.settings import Settings
from outbox.status import read_status


def status(json: Json = False) -> None:
    """Show what is pending, who relays, and what is dead or parked."""
    reading = ask(Settings(), read_status)
    if json:
        typer.echo(reading.model_dump_json())
    else:
        rows = [(name.replace("_", " "), value) for name, value in reading]
        print_table(("outbox", "value"), rows)
