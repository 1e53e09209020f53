"""`python -m outbox audit`."""

import json as to_json
from dataclasses import asdict
from typing import Annotated

import typer

from outbox.audit.audit import LIMIT, Audit
from outbox.audit.audit import audit as compare
from outbox.audit.findings import AuditFinding
from outbox.audit.scope import Range
from outbox.cli.console import Json, ask
from outbox.cli.options.number import FromPosition, ToPosition
from outbox.cli.options.times import Before, Since, parse_time_or_interval
from outbox.cli.progress_bar import show_progress
from outbox.runtime.lifecycle import calm_the_collector
from outbox.runtime.output import print_table, say_json
from outbox.settings import Settings

EXIT_FOUND = 1

Topics = Annotated[list[str] | None, typer.Option("--topic", help="Only this topic; repeatable.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Findings of each kind to show.")]


def audit(
    from_position: FromPosition = None,
    to_position: ToPosition = None,
    since: Since = None,
    until: Before = None,
    topic: Topics = None,
    limit: Limit = LIMIT,
    json: Json = False,
) -> None:
    """Compare PostgreSQL, the recorded deliveries and the topics.

    All that PostgreSQL still has, or a range of positions or times. Exit code 1 where anything but
    faithful copies was found.
    """
    settings = Settings()
    calm_the_collector()
    asked = Range(
        from_position, to_position,
        parse_time_or_interval(since), parse_time_or_interval(until), topic,
    )  # fmt: skip
    with show_progress("records read", quiet=json) as on_progress:
        found = ask(
            settings, lambda connection: compare(connection, settings, asked, limit, on_progress)
        )
    if json:
        say_json(asdict(found) | {"right": found.right})
    else:
        _print_audit(found)
    raise typer.Exit(0 if found.right else EXIT_FOUND)


def _print_audit(found: Audit) -> None:
    rows = [(name.replace("_", " "), f"{count:,}") for name, count in asdict(found.counts).items()]
    print_table(("audit", "messages"), rows)
    if found.findings:
        columns = ("found", "why", "position", "key", "version", "id", "where", "term", "evidence")
        print_table(columns, map(_render_row, found.findings))


def _render_row(finding: AuditFinding) -> tuple[object, ...]:
    where = f"{finding.topic}/{finding.partition}/{finding.offset}"
    evidence = to_json.dumps(finding.details) if finding.details else ""
    return (
        finding.kind, finding.why, finding.position, finding.key, finding.version, finding.id,
        where, finding.term, evidence,
    )  # fmt: skip
