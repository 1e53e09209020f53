"""Schedules of twelve steps of two writers and one look of the relay, and a tally of many."""

import random
from collections import Counter
from dataclasses import dataclass, field, fields
from itertools import combinations

from tests.kit.load.units import STEPS
from tests.kit.verdicts.history import Verdict

MOMENTS = 2 * STEPS + 1


@dataclass(frozen=True, slots=True)
class Schedule:
    """Who takes the next step, twelve times; and before which of them the relay looks (0 to 12)."""

    order: str
    moment: int


def all_schedules() -> list[Schedule]:
    """Return every order with every moment."""
    return [Schedule(order, moment) for order in orders() for moment in range(MOMENTS)]


def orders() -> list[str]:
    """Return every order of six steps of A and six of B."""
    steps = range(2 * STEPS)
    chosen = combinations(steps, STEPS)
    return ["".join("A" if step in of_a else "B" for step in steps) for of_a in chosen]


def some_schedules(count: int, seed: int) -> list[Schedule]:
    return random.Random(seed).sample(all_schedules(), count)


@dataclass
class Tally:
    """What many schedules showed: how many were wrong in which way, and one of each to look at.

    `legal` are the different orders that were left, with the number of steps before the look;
    `waited` counts statements that were seen waiting for the head, `repeated` units that
    PostgreSQL could not serialize.
    """

    schedules: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Schedule] = field(default_factory=dict)
    legal: set[Schedule] = field(default_factory=set, repr=False)
    waited: int = 0
    repeated: int = 0

    def add(self, schedule: Schedule, verdict: Verdict, torn: int) -> None:
        self.schedules += 1
        kinds = [each.name for each in fields(verdict) if each.name != "committed"]
        found = {kind for kind in kinds if getattr(verdict, kind)} | ({"torn"} if torn else set())
        self.wrong.update(found)
        for kind in found:
            self.examples.setdefault(kind, schedule)

    def __str__(self) -> str:
        counts = ", ".join(f"{kind} in {count:,}" for kind, count in sorted(self.wrong.items()))
        return f"{self.schedules:,} schedules: {counts or 'all right'}"
