"""Drilled: what a drift drill is asked for, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel

from outbox.runtime.output import print_table, say_json


@dataclass(frozen=True)
class DrillOptions:
    """What `python -m stack drift-drill` was asked for."""

    keys: int = 100_000
    writes_per_second: float = 20.0
    patience_seconds: float = 20.0
    repairs_per_second: float = 500.0
    seed: int = 1
    keep: bool = False


class Measured(BaseModel):
    """What a piece of work took: seconds, and MiB above what was in use when it began."""

    seconds: float
    peak_mebibytes: float


class Drilled(BaseModel):
    """One store, in keys: `wrong` were found or missed against the plan; `left` differ after the
    repair or at the end; `touched` hold something else than before, though nobody wrote them.
    """

    projection: str
    found: dict[str, int]
    wrong: int
    applied: int
    forgotten: int
    failed: int
    left: int
    touched: int = 0
    check: Measured
    repair: Measured
    check_again: Measured

    @property
    def right(self) -> bool:
        return self.wrong == self.failed == self.left == self.touched == 0


class DrillOutcome(BaseModel):
    """The whole drill; `written` messages came while it went on."""

    providers: dict[str, str] = {}
    keys: int
    planted: dict[str, int]
    written: int
    seconds: float = 0.0
    stores: list[Drilled]

    @property
    def right(self) -> bool:
        return all(store.right for store in self.stores)


def print_outcome(outcome: DrillOutcome, *, as_json: bool) -> None:
    """A table for a person; with `as_json`, on standard error, and one line of JSON after it."""
    title = f"{outcome.keys:,} keys, {outcome.written:,} written meanwhile, {outcome.seconds:.0f} s"
    columns = ("drift drill", *(store.projection for store in outcome.stores))
    rows = [(name, *map(cell, outcome.stores)) for name, cell in ROWS.items()]
    print_table(columns, rows, title=title, error=as_json)
    if as_json:
        say_json(outcome.model_dump(mode="json"))


def _took(measured: Measured) -> str:
    return f"{measured.seconds:.1f} s, {measured.peak_mebibytes:.0f} MiB more"


ROWS: dict[str, Callable[[Drilled], str]] = {
    "found": lambda each: ", ".join(f"{n} {kind}" for kind, n in each.found.items()),
    "wrongly found or missed": lambda each: str(each.wrong),
    "applied again, forgotten": lambda each: f"{each.applied}, {each.forgotten}",
    "left, failed": lambda each: f"{each.left}, {each.failed}",
    "touched beside them": lambda each: str(each.touched),
    "check": lambda each: _took(each.check),
    "repair": lambda each: _took(each.repair),
    "check again": lambda each: _took(each.check_again),
}
