"""`python -m outbox partitions list | create | prune`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import psycopg
import structlog
import typer
from rich.text import Text

from outbox.cli.console import DryRun, Json, Reason, ask
from outbox.escape import escape
from outbox.operations import Operation
from outbox.retention.create_ahead import create_day_partitions
from outbox.retention.outcome import PruneResult
from outbox.retention.report import RetentionReport, read_report
from outbox.retention.retention import Retention
from outbox.runtime.output import print_table, say, say_json, terminal
from outbox.settings import Settings

app = typer.Typer(
    help="The daily partitions of outbox.messages: made ahead, dropped after retention."
)
log = structlog.get_logger()

Older = Annotated[
    int | None,
    typer.Option(
        "--older-than-days", min=1, max=3_650, help="Instead of what the settings retain."
    ),
]
EXIT_LEFT = 1


@app.callback(invoke_without_command=True)
def partitions(context: typer.Context, json: Json = False) -> None:
    """Show the partitions, where no command is given."""
    if context.invoked_subcommand is None:
        list_command(json)


@app.command("list")
def list_command(json: Json = False) -> None:
    """Show each one: how large it is, whether all of it is published, whether it is due."""
    settings = Settings()
    found = ask(settings, lambda connection: read_report(connection, settings.retention_days))
    if json:
        say_json(asdict(found))
    else:
        _print_report(found)


@app.command("create")
def create_command(json: Json = False) -> None:
    """Make the partitions ahead that are missing, as the leading relay does by itself."""
    settings = Settings()
    days = settings.partitions_ahead_days
    made = ask(settings, lambda connection: create_day_partitions(connection, days))
    say_json({"created": made}) if json else say(f"{made} partitions created")


@app.command("prune")
def prune_command(
    reason: Reason, older_than_days: Older = None, dry_run: DryRun = False, json: Json = False
) -> None:
    """Drop what is past retention and wholly published. Exit code 1: some of it is left."""
    settings = Settings()
    if older_than_days is not None:
        settings = settings.model_copy(update={"retention_days": older_than_days})
    operation = Operation(settings.operator, "partitions prune", "", reason)
    with _show_pruning() as on_progress:

        async def prune(connection: psycopg.AsyncConnection[Any]) -> PruneResult:
            retention = Retention(connection, settings, operation, on_progress=on_progress)
            return await (retention.preview() if dry_run else retention.prune())

        pruned = ask(settings, prune)
    _print_result(pruned, dry_run=dry_run, json=json)
    sys.exit(EXIT_LEFT if pruned.left else 0)


def _print_result(pruned: PruneResult, *, dry_run: bool, json: bool) -> None:
    if json:
        result = {"dropped": pruned.dropped, "left": pruned.left, "dry_run": dry_run}
        counts = {name: getattr(pruned, name) for name in ("late", "kept", "deliveries", "ids")}
        say_json(result | {"deleted": counts})
        return
    done = "would be dropped" if dry_run else "dropped"
    print_table(("day", "outcome"), [(each.day, each.why_not or done) for each in pruned.days])
    past = "are past retention" if dry_run else "deleted"
    say(f"{pruned.late} rows of the default partition {past}")


@contextmanager
def _show_pruning() -> Iterator[Callable[[str], None]]:
    """Yield what reports the progress: in place on a terminal, and otherwise in the log."""
    if not sys.stderr.isatty():
        yield lambda text: log.info("pruning", at=text)
        return
    with terminal(error=True).status("pruning") as status:
        yield lambda text: status.update(Text(escape(f"pruning: {text}")))


def _print_report(found: RetentionReport) -> None:
    columns = ("day", "messages", "bytes", "published", "parked", "due")
    rows = [
        (each.day, each.messages, each.bytes, each.published, each.parked, each.due)
        for each in found.days
    ]
    print_table(columns, rows)
    say(f"{found.kept} compacted messages: the latest of their keys, from dropped partitions")
