"""Outcome: the options of a drift drill, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel

from outbox.runtime.output import print_table, say_json


@dataclass(frozen=True)
class DrillOptions:
    """The options of `python -m stack drift-drill`."""

    keys: int = 100_000
    writes_per_second: float = 20.0
    patience_seconds: float = 20.0
    repairs_per_second: float = 500.0
    seed: int = 1
    keep: bool = False


class Measurement(BaseModel):
    """What a piece of work took: seconds, and MiB above what was in use when it began."""

    seconds: float
    peak_mebibytes: float


class StoreOutcome(BaseModel):
    """What came of one store, in numbers of keys.

    `wrong` were found or missed, against the plan. `applied` and `forgotten` (deleted, since no
    event accounts for them) were repaired, and `failed` were not. `left` differ after the repair,
    or at the end. `touched` hold something else than before, though no writer wrote them.
    """

    projection: str
    found: dict[str, int]
    wrong: int
    applied: int
    forgotten: int
    failed: int
    left: int
    touched: int = 0
    check: Measurement
    repair: Measurement
    check_again: Measurement

    @property
    def right(self) -> bool:
        return self.wrong == self.failed == self.left == self.touched == 0


class DrillOutcome(BaseModel):
    """What came of the whole drill; `written` messages were published while it went on."""

    providers: dict[str, str] = {}
    keys: int
    planted: dict[str, int]
    written: int
    seconds: float = 0.0
    stores: list[StoreOutcome]

    @property
    def right(self) -> bool:
        return all(store.right for store in self.stores)


def print_outcome(outcome: DrillOutcome, *, as_json: bool) -> None:
    """Print a table for an operator.

    With `as_json` it goes to standard error, and standard output has one line of JSON.
    """
    title = f"{outcome.keys:,} keys, {outcome.written:,} written meanwhile, {outcome.seconds:.0f} s"
    columns = ("drift drill", *(store.projection for store in outcome.stores))
    rows = [(name, *map(cell, outcome.stores)) for name, cell in ROWS.items()]
    print_table(columns, rows, title=title, error=as_json)
    if as_json:
        say_json(outcome.model_dump(mode="json"))


def _describe(measured: Measurement) -> str:
    return f"{measured.seconds:.1f} s, {measured.peak_mebibytes:.0f} MiB more"


ROWS: dict[str, Callable[[StoreOutcome], str]] = {
    "found": lambda each: ", ".join(f"{n} {kind}" for kind, n in each.found.items()),
    "wrongly found or missed": lambda each: str(each.wrong),
    "applied again, forgotten": lambda each: f"{each.applied}, {each.forgotten}",
    "left, failed": lambda each: f"{each.left}, {each.failed}",
    "touched beside them": lambda each: str(each.touched),
    "check": lambda each: _describe(each.check),
    "repair": lambda each: _describe(each.repair),
    "check again": lambda each: _describe(each.check_again),
}
