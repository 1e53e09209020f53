"""Pruned: what a prune did to each day past retention, and what it left."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class DayOutcome:
    """A day past retention: dropped, or why not. `since`: when the oldest that is left began.

    `day` is `late`, `kept` or `deliveries` where the step that failed was at these rows.
    """

    day: str
    why_not: str | None
    since: datetime | None = None


@dataclass(slots=True)
class PruneResult:
    """What a prune did to each day, and how many rows it deleted.

    `late` are messages of the default partition; `kept` and `deliveries`, rows of these tables;
    `ids`, those that callers gave to messages.
    """

    days: list[DayOutcome] = field(default_factory=list)
    late: int = 0
    kept: int = 0
    deliveries: int = 0
    ids: int = 0

    @property
    def dropped(self) -> list[str]:
        return [outcome.day for outcome in self.days if outcome.why_not is None]

    @property
    def left(self) -> dict[str, str]:
        """Why each of the others is still there."""
        return {outcome.day: outcome.why_not for outcome in self.days if outcome.why_not}
