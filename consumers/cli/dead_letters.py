"""`python -m consumers dead-letters list | show | retry | discard | count | prune`."""

import json as to_json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer

from consumers.cli.options import Connection, DryRun
from consumers.dead_letters.listing import (
    OPEN_STATUSES,
    Letter,
    LetterDetails,
    LetterSelection,
    LetterStatus,
    count_letters,
    list_letters,
    make_headers_readable,
    make_readable,
    read_letter,
)
from consumers.dead_letters.outcome import LetterOutcome, wait_for_outcome
from consumers.dead_letters.repair import LetterPreview, discard, preview_repair, prune, retry
from consumers.settings import Settings
from outbox.cli.console import Json, Reason, ask
from outbox.cli.options.option_groups import group_options
from outbox.cursor.cut import HIGHEST
from outbox.operations import Operation
from outbox.runtime.lifecycle import EXIT_UNANSWERED
from outbox.runtime.output import complain, print_table, say, say_json

app = typer.Typer(help="Messages that could not be applied, and what waits behind them.")

Consumer = Annotated[str | None, typer.Option(help="Only letters of this consumer.")]
Topic = Annotated[str | None, typer.Option(help="Only messages of this topic.")]
Key = Annotated[str | None, typer.Option(help="Only messages of this key.")]
LetterReason = Annotated[str | None, typer.Option(help="Only what failed so, e.g. schema.")]
Ids = Annotated[
    list[int] | None, typer.Option("--id", min=0, max=HIGHEST, help="Only this letter; repeatable.")
]
All = Annotated[bool, typer.Option("--all", help="Every dead letter.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Letters to show.")]
After = Annotated[
    int, typer.Option(min=0, max=HIGHEST, help="Only letters with a higher id: the next page.")
]
Statuses = Annotated[
    list[LetterStatus] | None,
    typer.Option("--status", help="Repeatable; dead, waiting and retrying if not given."),
]
WaitSeconds = Annotated[
    float,
    typer.Option(min=0, max=86_400, help="How long to wait for what becomes of them; 0: not."),
]
Older = Annotated[
    int,
    typer.Option("--older-than-days", min=1, max=36_500, help="Only letters closed before that."),
]
EXIT_DEAD_AGAIN = 1
Repair = Callable[[Connection, LetterSelection, Operation], Awaitable[list[int]]]


def select_letters(
    *,
    consumer: Consumer = None,
    topic: Topic = None,
    key: Key = None,
    letter_reason: LetterReason = None,
    ids: Ids = None,
) -> LetterSelection:
    """Return which letters the options select: all of them where none is given."""
    return LetterSelection(consumer, topic, key, letter_reason, ids or None)


@group_options(selection=select_letters)
def select_for_repair(selection: LetterSelection, *, all_letters: All = False) -> LetterSelection:
    """Return the selection; BadParameter where no option selects: all letters need `--all`."""
    if selection == LetterSelection() and not all_letters:
        options = "--id, --consumer, --topic, --key, --letter-reason or --all"
        raise typer.BadParameter(f"say which: {options}")
    return selection


@app.callback(invoke_without_command=True)
def dead_letters(context: typer.Context, json: Json = False) -> None:
    """List the letters that need an operator, if no command is given."""
    if context.invoked_subcommand is None:
        list_command(json=json)


@app.command("list")
@group_options(selection=select_letters)
def list_command(
    selection: LetterSelection,
    status: Statuses = None,
    limit: Limit = 100,
    after: After = 0,
    json: Json = False,
) -> None:
    """Show letters, oldest first, without their bytes; `--after` the last id for the next page."""
    statuses = tuple(status) if status else OPEN_STATUSES
    letters = ask(
        Settings(),
        lambda connection: list_letters(
            connection, selection, statuses=statuses, limit=limit, after=after
        ),
    )
    if json:
        say_json([asdict(each) for each in letters])
    else:
        _print_list(letters)


@app.command("show")
def show_command(
    letter_id: Annotated[int, typer.Argument(metavar="ID", min=0, max=HIGHEST)], json: Json = False
) -> None:
    """Show one letter: its bytes, as text or in base64, what waits behind it, and its history."""
    details = _as_json(ask(Settings(), lambda connection: read_letter(connection, letter_id)))
    if json:
        say_json(details)
    else:
        rows = [(name, _format_cell(value)) for name, value in details.items()]
        print_table(("field", "value"), rows)


@app.command("retry")
@group_options(selection=select_for_repair)
def retry_command(
    reason: Reason,
    selection: LetterSelection,
    wait_seconds: WaitSeconds = 5.0,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Try dead letters again, and then what waits behind them, in the order of the key.

    The running consumer does it. A letter that fails again is dead again, and its key waits on.
    The command reports what became of them, after some seconds at the latest. Exit code 1 if one is
    dead again, 2 if one still waits for its consumer.
    """
    outcome = _repair(
        "dead-letters retry",
        retry,
        selection,
        reason,
        dry_run=dry_run,
        json=json,
        wait_seconds=wait_seconds,
    )
    if outcome is not None and (outcome.dead or outcome.waiting):
        raise typer.Exit(EXIT_DEAD_AGAIN if outcome.dead else EXIT_UNANSWERED)


@app.command("discard")
@group_options(selection=select_for_repair)
def discard_command(
    reason: Reason, selection: LetterSelection, dry_run: DryRun = False, json: Json = False
) -> None:
    """Never apply dead letters; redeliver what waits behind them.

    To correct a message, publish a new one of the same key through the outbox, which will wait
    behind the letter, and then discard the letter: a message is never edited where it is, since
    its bytes are what the topic and every other consumer have.
    """
    _repair("dead-letters discard", discard, selection, reason, dry_run=dry_run, json=json)


@app.command("count")
def count_command(json: Json = False) -> None:
    """Count letters by consumer and status, with the age of the oldest in seconds."""
    counts = [asdict(each) for each in ask(Settings(), count_letters)]
    if json:
        say_json(counts)
    else:
        columns = ("consumer", "status", "letters", "oldest_age_seconds")
        print_table(columns, [[each[name] for name in columns] for each in counts])


@app.command("prune")
def prune_command(
    reason: Reason, older_than_days: Older = 90, dry_run: DryRun = False, json: Json = False
) -> None:
    """Delete letters that were applied or discarded long ago."""
    settings = Settings()
    subject = f"older_than_days={older_than_days}"
    operation = Operation(settings.operator, "dead-letters prune", subject, reason)
    letters = ask(
        settings,
        lambda connection: prune(connection, older_than_days, operation, dry_run=dry_run),
    )
    if json:
        say_json({"letters": letters, "dry_run": dry_run})
    else:
        say(f"{letters} letters {'would be deleted' if dry_run else 'deleted'}")


def _repair(
    action: str,
    repair: Repair,
    selection: LetterSelection,
    reason: str,
    *,
    dry_run: bool,
    json: bool,
    wait_seconds: float = 0.0,
) -> LetterOutcome | None:
    """Repair, print what was touched, and return what became of it if that was waited for."""
    settings = Settings()
    operation = Operation(settings.operator, action, str(selection), reason)

    async def touch(connection: Connection) -> tuple[LetterPreview, LetterOutcome | None]:
        found = await preview_repair(connection, selection)
        if dry_run:
            return found, None
        letters = await repair(connection, selection, operation)
        touched = LetterPreview(len(letters), found.waiting)
        if not wait_seconds:
            return touched, None
        return touched, await wait_for_outcome(connection, letters, wait_seconds)

    touched, outcome = ask(settings, touch)
    _print_repair(touched, outcome, dry_run=dry_run, json=json)
    return outcome


def _print_repair(
    touched: LetterPreview, outcome: LetterOutcome | None, *, dry_run: bool, json: bool
) -> None:
    if json:
        counts = asdict(touched) | {"dry_run": dry_run}
        say_json(counts | ({"outcome": asdict(outcome)} if outcome else {}))
        return
    would = " would be touched" if dry_run else ""
    say(f"{touched.letters} letters{would}; {touched.waiting} messages wait behind them")
    if outcome is not None:
        _print_outcome(outcome)


def _print_outcome(outcome: LetterOutcome) -> None:
    say(f"{outcome.applied} applied, {outcome.dead} dead again, {outcome.waiting} waiting")
    if outcome.failed:
        rows = [(e.id, e.reason, e.attempts, e.error) for e in outcome.failed]
        print_table(("id", "reason", "attempts", "error"), rows)
    if outcome.waiting:
        why = "their consumer, which does not run or is busy, or for an earlier letter of their key"
        complain(f"those wait for {why}")


def _print_list(letters: list[Letter]) -> None:
    columns = ("id", "consumer", "status", "reason", "attempts", "key", "since", "error")
    rows = [
        (e.id, e.consumer, e.status, e.reason, e.attempts, e.stream or "", e.created_at, e.error)
        for e in letters
    ]
    print_table(columns, rows)


def _as_json(details: LetterDetails) -> dict[str, Any]:
    """Everything of a letter on one level; bytes are {"text": ...} or {"base64": ...}."""
    letter = details.letter
    readable = {
        "key": make_readable(letter.key),
        "value": make_readable(letter.value),
        "headers": make_headers_readable(letter.headers),
        "operations": [asdict(each) for each in details.operations],
    }
    return asdict(letter) | asdict(details.around) | readable


def _format_cell(value: object) -> str:
    return (
        value if isinstance(value, str) else to_json.dumps(value, default=str, ensure_ascii=False)
    )
