"""Outcome: what a prune did to each day past retention, and what it left."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class DayOutcome:
    """A day past retention: it was dropped where `why_not` is None, else that says why not.

    `since` is when the oldest messages that are left were created. `day` is `late` for the default
    partition, and `kept` or `deliveries` where deleting rows of these tables failed.
    """

    day: str
    why_not: str | None
    since: datetime | None = None


@dataclass(slots=True)
class PruneResult:
    """What a prune did to each day, and how many rows it deleted.

    `late` counts rows of the default partition, `kept` and `deliveries` rows of these tables, and
    `ids` the message ids that callers had given.
    """

    days: list[DayOutcome] = field(default_factory=list)
    late: int = 0
    kept: int = 0
    deliveries: int = 0
    ids: int = 0

    @property
    def dropped(self) -> list[str]:
        """The days that were dropped."""
        return [outcome.day for outcome in self.days if outcome.why_not is None]

    @property
    def left(self) -> dict[str, str]:
        """The days that are still there, each with the reason."""
        return {outcome.day: outcome.why_not for outcome in self.days if outcome.why_not}
