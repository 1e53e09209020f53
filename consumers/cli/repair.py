"""`python -m consumers drift repair`."""

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import typer

from consumers.cli.drift_report import LIMIT, DriftSummary, print_summary, summarize_drift
from consumers.cli.options import (
    Connection,
    DryRun,
    Limit,
    Only,
    Patience,
    build_check_options,
    choose_projections,
    open_drift,
)
from consumers.drift.check import CheckOptions, Drift
from consumers.drift.repair import RepairCounts, RepairLimits, RepairTooLarge, repair
from consumers.projections.projection import Projection
from consumers.settings import Settings
from outbox.cli.console import Json, Reason
from outbox.cli.options.number import MAX_RATE, refuse_nan
from outbox.cli.progress_bar import show_progress
from outbox.errors import OutboxError
from outbox.operations import Operation
from outbox.runtime.lifecycle import EXIT_UNANSWERED, answer, calm_the_collector
from outbox.runtime.output import complain, print_table, say_json

EXIT_LEFT = 1
EXIT_REFUSED = 3
REPAIRED = ("applied", "forgotten", "settled", "failed", "seconds")

AllowShare = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, callback=refuse_nan, help="How much of all keys it may touch; 1: all."
    ),
]
Rate = Annotated[
    float | None, typer.Option(min=0.1, max=MAX_RATE, callback=refuse_nan, help="Keys a second.")
]


@dataclass(frozen=True, slots=True)
class RepairRequest:
    """What the operator asked for; `quiet` shows no progress."""

    options: CheckOptions
    limits: RepairLimits
    operation: Operation
    dry_run: bool
    limit: int
    quiet: bool


@dataclass(frozen=True, slots=True)
class RepairOutcome:
    """What was found in one projection, and what was repaired; `refused` is why nothing was."""

    found: DriftSummary
    repaired: RepairCounts | None = None
    refused: str | None = None

    @property
    def exit_code(self) -> int:
        """0, or 1 if keys are left, 2 if the store could not be repaired, 3 if it was refused."""
        if self.found.error:
            return EXIT_UNANSWERED
        if self.refused:
            return EXIT_REFUSED
        left = self.repaired.failed if self.repaired else self.found.keys
        return EXIT_LEFT if left else 0


def repair_command(
    reason: Reason,
    projection: Only = None,
    dry_run: DryRun = False,
    allow_share: AllowShare = None,
    rate: Rate = None,
    patience: Patience = None,
    limit: Limit = LIMIT,
    json: Json = False,
) -> None:
    """Check, and apply the latest message of just the keys that differ; delete orphans.

    A foreign entry in a key's place is replaced; any other may be another program's: it is named,
    and an operator must remove it.
    Exit code 1 when keys are left, 2 when a store could not be repaired, 3 when so many differ
    that it was refused.
    """
    settings, names = Settings(), choose_projections(projection)
    calm_the_collector()
    asked = RepairRequest(
        build_check_options(settings, patience),
        _build_limits(settings, allow_share, rate),
        Operation(settings.operator, "drift repair", "", reason),
        dry_run,
        limit,
        json,
    )
    outcomes = answer(settings, _repair_all(settings, names, asked))
    _print_outcomes(outcomes, json=json)
    raise typer.Exit(max(outcome.exit_code for outcome in outcomes))


def _build_limits(settings: Settings, share: float | None, rate: float | None) -> RepairLimits:
    """Take the limits from the options, or else from the settings."""
    return RepairLimits(
        settings.repair_max_share if share is None else share,
        settings.repair_free_keys,
        settings.repair_keys_per_second if rate is None else rate,
    )


async def _repair_all(
    settings: Settings, names: list[str], asked: RepairRequest
) -> list[RepairOutcome]:
    """Repair one after the other; one that fails does not keep the others from being repaired."""
    asked.operation.require_reason()
    return [await _repair(settings, name, asked) for name in names]


async def _repair(settings: Settings, name: str, asked: RepairRequest) -> RepairOutcome:
    try:
        async with open_drift(settings, name, asked.options, quiet=asked.quiet) as opened:
            return await _repair_found(*opened, asked)
    except OutboxError as error:
        complain(f"{name}: {error}")
        return RepairOutcome(DriftSummary(name, error=str(error)))


async def _repair_found(
    connection: Connection, store: Projection, drift: Drift, asked: RepairRequest
) -> RepairOutcome:
    summary = summarize_drift(drift, asked.limit)
    operation = replace(asked.operation, subject=store.name, details={})
    try:
        asked.limits.require(drift)
        if asked.dry_run or not drift.keys:
            return RepairOutcome(summary)
        with show_progress(f"{store.name} keys repaired", quiet=asked.quiet) as on_progress:
            done = await repair(connection, store, drift, asked.limits, operation, on_progress)
        return RepairOutcome(summary, repaired=done)
    except RepairTooLarge as refusal:
        complain(str(refusal))
        return RepairOutcome(summary, refused=str(refusal))


def _print_outcomes(outcomes: list[RepairOutcome], *, json: bool) -> None:
    if json:
        say_json({each.found.projection: _as_json(each) for each in outcomes})
        return
    print_summary(each.found for each in outcomes)
    columns = ("projection", "applied", "forgotten", "settled", "left", "seconds")
    print_table(columns, [_build_row(each.found.projection, each.repaired) for each in outcomes])


def _build_row(projection: str, done: RepairCounts | None) -> tuple[object, ...]:
    if done is None:
        return (projection, "-", "-", "-", "-", "-")
    counts = (done.applied, done.forgotten, done.settled, done.failed)
    return (projection, *(f"{count:,}" for count in counts), f"{done.seconds:.1f}")


def _as_json(outcome: RepairOutcome) -> dict[str, Any]:
    done = outcome.repaired
    nothing: dict[str, Any] = {"repaired": None, "left": [], "foreign": []}
    shown = asdict(outcome.found) | nothing | {"refused": outcome.refused}
    if done is not None:
        shown["repaired"] = {name: getattr(done, name) for name in REPAIRED}
        shown["left"] = [
            {"aggregate": stream.aggregate, "key": stream.key, "why": why}
            for stream, why in done.left.items()
        ]
        shown["foreign"] = [asdict(each) for each in done.foreign]
    return shown
