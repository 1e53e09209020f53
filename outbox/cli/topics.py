"""`python -m outbox topics`."""

from typing import Annotated

import typer

from outbox.cli.console import Json
from outbox.kafka import create_topics
from outbox.output import say, say_json
from outbox.process import answer
from outbox.settings import Settings
from schemas.registry import REGISTRY


def topics(
    partitions: Annotated[int, typer.Option(min=1, max=10_000, help="Of each new topic.")] = 4,
    replication: Annotated[
        int, typer.Option(min=1, max=100, help="Replicas of each partition.")
    ] = 1,
    json: Json = False,
) -> None:
    """Create the topics of all known messages that are missing; existing ones are left alone."""
    settings = Settings()
    names = REGISTRY.topics()
    created = answer(settings, create_topics(settings.kafka_url, names, partitions, replication))
    existing = [name for name in names if name not in created]
    if json:
        say_json({"created": created, "existing": existing})
    else:
        say(f"{len(created)} topics created, {len(existing)} existed")
