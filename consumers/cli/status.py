"""`python -m consumers status`: how far each consumer is, and why a partition stands still."""

from typing import Annotated

import typer

from consumers.settings import Settings
from outbox.cli.console import Json
from outbox.kafka import GroupProgress, group_of, read_group_progress
from outbox.runtime.lifecycle import answer
from outbox.runtime.output import print_table, say_json

Consumers = Annotated[
    list[str] | None, typer.Argument(help="Names of consumers; all of the catalog's if not given.")
]
ALL = ("catalog-commands", "qdrant", "neo4j")
TIMEOUT_SECONDS = 30.0
COLUMNS = ("consumer", "topic", "partition", "committed", "behind", "stands still")


def status(consumers: Consumers = None, json: Json = False) -> None:
    """Show each partition's committed offset, and why one stands still; exit code 1 if one does."""
    settings = Settings()
    found = answer(settings, _ask(settings, consumers or ALL))
    if json:
        shown = {name: [each._asdict() for each in some] for name, some in found.items()}
        say_json(shown)
    else:
        print_table(COLUMNS, [(name, *each) for name, some in found.items() for each in some])
    if any(each.stands_still for some in found.values() for each in some):
        raise typer.Exit(1)


async def _ask(
    settings: Settings, consumers: list[str] | tuple[str, ...]
) -> dict[str, list[GroupProgress]]:
    return {
        name: await read_group_progress(
            settings.kafka_url, group_of(name), TIMEOUT_SECONDS, settings.inflated_batch_bytes
        )
        for name in consumers
    }
