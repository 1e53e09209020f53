"""`python -m outbox topics`."""

from collections.abc import Iterable
from typing import Annotated

import psycopg
import typer

from outbox.cli.console import Json
from outbox.errors import DependencyDown, translate_errors
from outbox.kafka import create_topics
from outbox.postgres.connection import connect_command
from outbox.relay.partition_counts import read_needed_topics
from outbox.runtime.lifecycle import answer
from outbox.runtime.output import complain, say, say_json
from outbox.settings import Settings
from schemas.registry import REGISTRY

Named = Annotated[
    list[str] | None,
    typer.Option("--topic", help="Only this one, whether a message goes there or not; repeatable."),
]


def topics(
    partitions: Annotated[int, typer.Option(min=1, max=10_000, help="Of each new topic.")] = 4,
    replication: Annotated[
        int, typer.Option(min=1, max=100, help="Replicas of each partition.")
    ] = 1,
    topic: Named = None,
    json: Json = False,
) -> None:
    """Create the topics that are missing; existing ones are left alone.

    These are the topics of all known messages, and those that messages of the outbox go to or wait
    for.
    """
    settings = Settings()
    created, wanted = answer(settings, _create(settings, topic, partitions, replication))
    _report(created, [name for name in wanted if name not in created], json=json)


async def _create(
    settings: Settings, named: Iterable[str] | None, partitions: int, replication: int
) -> tuple[list[str], list[str]]:
    """Return the topics that were created, and all that were wanted."""
    names = sorted(set(named or {*REGISTRY.topics(), *await _read_needed(settings)}))
    return await create_topics(settings.kafka_url, names, partitions, replication), names


async def _read_needed(settings: Settings) -> set[str]:
    """Return the topics that the outbox needs; none where it does not answer or is not there."""
    try:
        async with await connect_command(settings, "command") as connection:
            with translate_errors():
                return await read_needed_topics(connection)
    except (DependencyDown, psycopg.Error) as error:
        (line, *_) = str(error).splitlines() or [type(error).__name__]
        complain(f"the outbox was not asked for its topics: {line}")
    return set()


def _report(created: list[str], existing: list[str], *, json: bool) -> None:
    if json:
        say_json({"created": created, "existing": existing})
        return
    for name in created:
        say(f"created {name}")
    say(f"{len(created)} topics created, {len(existing)} existed")
