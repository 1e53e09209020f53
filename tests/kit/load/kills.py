"""Kills: of one failpoint, so many, each at another moment that the seed decides."""

import os
import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from consumers.settings import Settings
from outbox.runtime.failpoints import Failpoint
from tests.kit.load.length import kills
from tests.kit.load.role import Role
from tests.kit.report import FAILPOINT_KILLS, say

KILLS = kills()
SEED = int(os.environ.get("SEED") or secrets.randbelow(1_000_000))
WITHIN_SECONDS = 180.0  # a process starts in one, or in fifty on a machine that is busy

# The death comes at a time between the first and this one, counted in each life of the process.
REACHES = 12
REACHES_OF = {
    Failpoint.LEASE_TAKEN: 1,  # once a life, as the drain
    Failpoint.DRAINING: 1,
    Failpoint.REVOKING: 1,
    Failpoint.PARTITION_DROPPED: 1,
    Failpoint.LEASE_RENEWED: 3,  # needs half a second of rest each
    Failpoint.RECORDS_RECEIVED: 4,  # one a turn, as the commit and often the batch
    Failpoint.OFFSET_SENT: 4,
    Failpoint.EFFECT_SENT: 4,
    Failpoint.EFFECT_DONE: 4,
    Failpoint.LETTER_WRITTEN: 4,
    Failpoint.KEY_PARKED: 4,
    **{point: 1 for point in Failpoint if point.startswith("rebuild-")},
}


class Killer:
    """Makes processes that die at `point`; one object a test."""

    def __init__(self, point: Failpoint, settings: Settings) -> None:
        self.point = point
        self.kills = 0
        self.rng = random.Random(f"{SEED} {point}")
        self._settings = settings

    def victim(self, name: str, *arguments: str) -> Role:
        """A role that will end by SIGKILL at the point, and nowhere else; not started yet."""
        at = self.rng.randint(1, REACHES_OF.get(self.point, REACHES))
        update = {"failpoints": f"{self.point}=kill@{at}"}
        return Role(name, self._settings.model_copy(update=update), *arguments)

    async def die(self, victim: Role) -> None:
        """Return once it has; AssertionError where it does not get to its point."""
        await victim.killed(WITHIN_SECONDS)
        self.kills += 1


@contextmanager
def reported(killer: Killer) -> Iterator[dict[str, int]]:
    """One line of the report, with what the block has counted; also where the block fails."""
    counted: dict[str, int] = {}
    try:
        yield counted
    finally:
        rest = "".join(f", {number} {name}" for name, number in counted.items())
        say(FAILPOINT_KILLS, f"{killer.point}: {killer.kills} kills{rest}, SEED={SEED}")
