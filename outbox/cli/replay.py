"""`python -m outbox replay preview | start | run | list | show | pause | resume | cancel`."""

import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any

import psycopg
import typer

from outbox.cli.console import Json, Reason, ask
from outbox.cli.options.number import MAX_RATE, refuse_nan
from outbox.cli.options.option_groups import group_options
from outbox.cli.options.selection import describe_selection, select_messages
from outbox.cli.progress_bar import show_progress
from outbox.cursor.cut import HIGHEST
from outbox.errors import InvalidInput
from outbox.kafka import group_of, has_committed
from outbox.operations import Operation
from outbox.replay.replayer import Replayer
from outbox.replay.requests import Replay, cancel, find, list_replays, pause, resume, start
from outbox.replay.source import ReplayPreview, ReplaySelection, preview_replay
from outbox.runtime.lifecycle import run_role
from outbox.runtime.output import print_table, say, say_json
from outbox.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Replay published messages, as duplicates.")

EXIT_UNFINISHED = 1
CONSUMER = re.compile(r"[a-z][a-z0-9-]{0,99}")
Connection = psycopg.AsyncConnection[Any]

For = Annotated[
    str | None, typer.Option("--for", help="Only for this consumer: qdrant, neo4j; else for all.")
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate", min=0.01, max=MAX_RATE, callback=refuse_nan, help="Messages a second, at most."
    ),
]
Later = Annotated[bool, typer.Option("--later", help="Only record it; `replay run` begins it.")]
Id = Annotated[
    int, typer.Argument(min=0, max=HIGHEST, help="Which replay, as `replay list` shows it.")
]
Limit = Annotated[int, typer.Option(min=1, max=10_000)]


@app.command("preview")
@group_options(selection=select_messages)
def preview_command(selection: ReplaySelection, rate: Rate = None, json: Json = False) -> None:
    """Count what would be replayed.

    `python -m consumers replay-preview` tells what the stores lack of it.
    """
    settings = Settings()
    seconds = 1 / (rate or settings.replay_messages_per_second)
    with show_progress("positions read", quiet=json) as on_progress:
        found = ask(settings, lambda connection: preview_replay(connection, selection, on_progress))
    if json:
        say_json(_render_preview(found, seconds))
    else:
        rows = [(kind.topic, kind.type, f"{count:,}") for kind, count in found.counts.items()]
        print_table(("topic", "type", "messages"), rows)
        say(f"{found.messages:,} messages, {found.messages * seconds:,.0f} s at this rate")


@app.command("start")
@group_options(selection=select_messages)
def start_command(
    reason: Reason,
    selection: ReplaySelection,
    consumer: For = None,
    rate: Rate = None,
    later: Later = False,
    json: Json = False,
) -> None:
    """Record a replay and run it. Exit code 1: it has not come to its end."""
    settings = Settings()
    rate = rate or settings.replay_messages_per_second
    operation = Operation(settings.operator, "replay start", describe_selection(selection), reason)

    with show_progress("positions read", quiet=json) as on_progress:

        async def start_after_preview(connection: Connection) -> Replay:
            operation.require_reason()
            found = await preview_replay(connection, selection, on_progress)
            await _require_known(settings, consumer, found)
            return await start(connection, selection, found, consumer, rate, operation)

        replay = ask(settings, start_after_preview)
    _report(replay, json=json) if later else _run(settings, replay, json=json)


@app.command("run")
def run_command(replay_id: Id, json: Json = False) -> None:
    """Go on with a replay whose process has ended. Exit code 1: it has not come to its end."""
    settings = Settings()
    _run(settings, ask(settings, lambda connection: find(connection, replay_id)), json=json)


@app.command("list")
def list_command(limit: Limit = 20, json: Json = False) -> None:
    """Show replays, the newest first."""
    replays = ask(Settings(), lambda connection: list_replays(connection, limit))
    if json:
        say_json([asdict(each) for each in replays])
        return
    columns = ("replay", "status", "for", "selection", "sent", "selected", "operator", "reason")
    print_table(columns, map(_render_row, replays))


@app.command("show")
def show_command(replay_id: Id, json: Json = False) -> None:
    """Show one replay: what it publishes, how far it is, who wanted it and why."""
    _report(ask(Settings(), lambda connection: find(connection, replay_id)), json=json)


@app.command("pause")
def pause_command(replay_id: Id, reason: Reason, json: Json = False) -> None:
    """Let it end after the batch in flight; `replay resume` goes on from there."""
    _report(_change("replay pause", pause, replay_id, reason), json=json)


@app.command("resume")
def resume_command(
    replay_id: Id, reason: Reason, rate: Rate = None, later: Later = False, json: Json = False
) -> None:
    """Go on with a paused replay, perhaps at another rate. Exit code 1: it is not at its end."""

    def resume_at_rate(
        connection: Connection, replay_id: int, operation: Operation
    ) -> Awaitable[Replay]:
        return resume(connection, replay_id, operation, rate)

    replay = _change("replay resume", resume_at_rate, replay_id, reason)
    _report(replay, json=json) if later else _run(Settings(), replay, json=json)


@app.command("cancel")
def cancel_command(replay_id: Id, reason: Reason, json: Json = False) -> None:
    """End it for good; what was replayed stays, and is harmless."""
    _report(_change("replay cancel", cancel, replay_id, reason), json=json)


def _change(
    action: str,
    change: Callable[[Connection, int, Operation], Awaitable[Replay]],
    replay_id: int,
    reason: str,
) -> Replay:
    """Pause, resume or cancel it, with an operation that names the operator and the reason."""
    settings = Settings()
    operation = Operation(settings.operator, action, f"replay {replay_id}", reason)
    return ask(settings, lambda connection: change(connection, replay_id, operation))


async def _require_known(settings: Settings, consumer: str | None, found: ReplayPreview) -> None:
    """Raise InvalidInput for a consumer nobody knows: all would pass over its records."""
    if consumer is None or not found.messages:
        return
    group = group_of(consumer)
    known = CONSUMER.fullmatch(consumer) is not None
    if not known or not await has_committed(settings.kafka_url, group, found.topics):
        raise InvalidInput(
            "replay", "for", f"must be a consumer; {group} has read none of the topics"
        )


def _run(settings: Settings, replay: Replay, *, json: bool) -> None:
    """Run it in this process until it ends, is paused or cancelled, or SIGTERM comes; then exit."""
    with show_progress("messages sent", quiet=json) as on_progress:
        replayer = Replayer(settings, replay.id, lambda sent: on_progress(sent, replay.selected))
        run_role(settings, replayer.run, replayer.stop)
    ended = ask(settings, lambda connection: find(connection, replay.id))
    _report(ended, json=json)
    sys.exit(0 if ended.status == "done" else EXIT_UNFINISHED)


def _render_preview(found: ReplayPreview, seconds_each: float) -> dict[str, Any]:
    counts = [{**kind._asdict(), "messages": count} for kind, count in found.counts.items()]
    return {
        "messages": found.messages, "counts": counts, "first_time": found.first_time,
        "last_time": found.last_time, "last_position": found.last_position,
        "seconds": found.messages * seconds_each,
    }  # fmt: skip


def _report(replay: Replay, *, json: bool) -> None:
    if json:
        say_json(asdict(replay))
        return
    rows = [(name.replace("_", " "), value) for name, value in asdict(replay).items()]
    print_table((f"replay {replay.id}", replay.status), rows[2:])


def _render_row(replay: Replay) -> tuple[object, ...]:
    return (
        replay.id, replay.status, replay.consumer or "all", describe_selection(replay.selection),
        replay.sent, replay.selected, replay.operator, replay.reason,
    )  # fmt: skip
