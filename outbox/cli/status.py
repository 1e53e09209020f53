"""`python -m outbox status`."""

from outbox.cli.console import Json, ask
from outbox.runtime.output import print_table, say_json
from outbox.settings import Settings
from outbox.status import read_status


def status(json: Json = False) -> None:
    """Show what is pending, who relays, and what is dead or parked."""
    reading = ask(Settings(), read_status)
    if json:
        say_json(reading.model_dump(mode="json"))
    else:
        rows = [(name.replace("_", " "), value) for name, value in reading]
        print_table(("outbox", "value"), rows)
