"""`python -m outbox parked list | release | discard`."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import asdict
from typing import Annotated, Any

import psycopg
import typer

from outbox.cli.console import DryRun, Json, Reason, ask
from outbox.cli.options.option_groups import group_options
from outbox.errors import DependencyDown
from outbox.kafka import existing_topics
from outbox.kafka.errors import TOPIC_MISSING
from outbox.operations import Operation
from outbox.relay.parked_repair import ParkedKey, ParkedSelection, discard, list_parked, release
from outbox.runtime.output import complain, print_table, say, say_json
from outbox.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Keys that wait behind a message Kafka refused.")

Aggregate = Annotated[str | None, typer.Option(help="Only keys of this aggregate type.")]
Key = Annotated[str | None, typer.Option(help="Only this key.")]
Topic = Annotated[str | None, typer.Option(help="Only keys refused by this topic.")]
All = Annotated[bool, typer.Option("--all", help="Every parked key.")]
LOOK_SECONDS = 5.0
Repair = Callable[[psycopg.AsyncConnection[Any], ParkedSelection, Operation], Awaitable[int]]


def select_parked(
    *, aggregate: Aggregate = None, key: Key = None, topic: Topic = None
) -> ParkedSelection:
    """Return which parked keys the options select: all of them where none is given."""
    return ParkedSelection(aggregate, key, topic)


@group_options(selection=select_parked)
def select_for_repair(selection: ParkedSelection, *, all_keys: All = False) -> ParkedSelection:
    """Return the selection; BadParameter where no option selects: all keys need `--all`."""
    chosen = selection.aggregate or selection.key or selection.topic
    if chosen is None and not all_keys:
        raise typer.BadParameter("say which: --aggregate, --key, --topic or --all")
    return selection


@app.command("list")
@group_options(selection=select_parked)
def list_command(selection: ParkedSelection, json: Json = False) -> None:
    """Show parked keys, why they are parked, and how many messages wait."""
    settings = Settings()

    async def read(connection: psycopg.AsyncConnection[Any]) -> tuple[list[ParkedKey], set[str]]:
        parked = await list_parked(connection, selection)
        return parked, await _read_appeared(settings, parked)

    parked, appeared = ask(settings, read)
    if json:
        say_json([asdict(each) | {"topic_exists": _exists_now(each, appeared)} for each in parked])
    else:
        _print_parked(parked)
        _advise(parked, appeared)


@app.command("release")
@group_options(selection=select_for_repair)
def release_command(
    reason: Reason, selection: ParkedSelection, dry_run: DryRun = False, json: Json = False
) -> None:
    """Try again, from the refused message on, in order."""
    _repair("parked release", release, selection, reason, dry_run=dry_run, json=json)


@app.command("discard")
@group_options(selection=select_for_repair)
def discard_command(
    reason: Reason, selection: ParkedSelection, dry_run: DryRun = False, json: Json = False
) -> None:
    """Never publish the refused message; try what waits behind it."""
    _repair("parked discard", discard, selection, reason, dry_run=dry_run, json=json)


def _repair(
    action: str,
    repair: Repair,
    selection: ParkedSelection,
    reason: str,
    *,
    dry_run: bool,
    json: bool,
) -> None:
    """Release or discard what is selected, or only count it, and print how many keys that is."""
    settings = Settings()
    operation = Operation(settings.operator, action, str(selection), reason)

    async def repair_or_count(connection: psycopg.AsyncConnection[Any]) -> int:
        if dry_run:
            parked = await list_parked(connection, selection)
            return sum(not each.released for each in parked)
        return await repair(connection, selection, operation)

    keys = ask(settings, repair_or_count)
    if json:
        say_json({"keys": keys, "dry_run": dry_run})
    else:
        say(f"{keys} keys{' would be touched' if dry_run else ''}")


async def _read_appeared(settings: Settings, parked: Iterable[ParkedKey]) -> set[str]:
    """Return the topics whose absence parked keys and that exist by now; none if Kafka is down."""
    missing = {each.topic for each in parked if _waits_for_topic(each)}
    if not missing:
        return set()
    try:
        return missing & await existing_topics(settings.kafka_url, LOOK_SECONDS)
    except DependencyDown as error:
        complain(f"whether topics exist by now is not known: {error}")
        return set()


def _waits_for_topic(parked: ParkedKey) -> bool:
    return parked.reason == TOPIC_MISSING and not parked.released


def _exists_now(parked: ParkedKey, appeared: Collection[str]) -> bool:
    return _waits_for_topic(parked) and parked.topic in appeared


def _advise(parked: Iterable[ParkedKey], appeared: Collection[str]) -> None:
    """Say on standard error, beside the table, what to do about missing topics."""
    waited_for = {each.topic for each in parked if _waits_for_topic(each)}
    for topic in sorted(waited_for & set(appeared)):
        release = f'python -m outbox parked release --topic {topic} --reason "the topic exists"'
        complain(f"topic {topic} exists now: {release}")
    for topic in sorted(waited_for - set(appeared)):
        create = f"python -m outbox topics --topic {topic}"
        complain(f"topic {topic} is missing: {create}, then release its keys")


def _print_parked(parked: list[ParkedKey]) -> None:
    columns = ("aggregate", "key", "topic", "reason", "attempts", "messages", "parked at")
    rows = [
        (p.aggregate, p.key, p.topic, p.reason, p.attempts, p.messages, p.parked_at) for p in parked
    ]
    print_table(columns, rows)
