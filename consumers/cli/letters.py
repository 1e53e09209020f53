"""`python -m consumers dead-letters`."""

import json as to_json

import typer

from consumers.settings import Settings
from outbox.cli.console import Json, print_table
from outbox.dead_letters import list_dead_letters
from outbox.process import answer


def dead_letters(json: Json = False, limit: int = 100) -> None:
    """List the messages that need a person, oldest first."""
    settings = Settings()
    letters = answer(settings, list_dead_letters(settings, limit))
    if json:
        typer.echo(to_json.dumps(letters))
    else:
        print_table(("dead letter", "error"), [(each["id"], each["error"]) for each in letters])
