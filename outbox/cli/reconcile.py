"""`python -m outbox reconcile`."""

from dataclasses import asdict
from functools import partial

from outbox.cli.console import DryRun, Json, Reason, ask
from outbox.cursor.reconcile import Remedy, preview_reconcile
from outbox.cursor.reconcile import reconcile as repair
from outbox.operations import Operation
from outbox.runtime.output import print_table, say, say_json
from outbox.settings import Settings

NEXT = (
    "What was published and then lost here is still in Kafka, and other messages will get its"
    " versions: run `python -m outbox audit`."
)


def reconcile(reason: Reason, dry_run: DryRun = False, json: Json = False) -> None:
    """Let the relay go on after a restore or a failover. Writers wait while it repairs."""
    settings = Settings()
    operation = Operation(settings.operator, "reconcile", "relay", reason)
    found = ask(settings, preview_reconcile if dry_run else partial(repair, operation=operation))
    if json:
        say_json(asdict(found) | {"dry_run": dry_run})
        return
    rows = [(name.replace("_", " "), _render_value(value)) for name, value in asdict(found).items()]
    print_table(("reconcile", "would be" if dry_run else "done"), rows)
    if found.remedy is not Remedy.NOTHING and not dry_run:
        say(NEXT)


def _render_value(value: object) -> str:
    return "; ".join(value) if isinstance(value, list) else str(value)
