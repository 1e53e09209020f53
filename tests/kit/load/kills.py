"""Kills of processes at one failpoint, each at another moment, which the seed decides."""

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

# A process dies when it reaches the point for the n-th time, and n is at most this.
REACHES = 12
REACHES_OF = {
    Failpoint.LEASE_TAKEN: 1,  # a process reaches it once, and the next two
    Failpoint.DRAINING: 1,
    Failpoint.REVOKING: 1,
    Failpoint.PARTITION_DROPPED: 1,
    Failpoint.LEASE_RENEWED: 3,  # needs half a second of rest each
    Failpoint.RECORDS_RECEIVED: 4,  # once a turn of the loop, like those below
    Failpoint.OFFSET_SENT: 4,
    Failpoint.EFFECT_SENT: 4,
    Failpoint.EFFECT_DONE: 4,
    Failpoint.LETTER_WRITTEN: 4,
    Failpoint.KEY_PARKED: 4,
    **{point: 1 for point in Failpoint if point.startswith("rebuild-")},
}


class Killer:
    """Makes processes that die at `point`; each test has a Killer of its own."""

    def __init__(self, point: Failpoint, settings: Settings) -> None:
        self.point = point
        self.kills = 0
        self.rng = random.Random(f"{SEED} {point}")
        self._settings = settings

    def victim(self, name: str, *arguments: str) -> Role:
        """Return a role, not started yet, that kills itself at the point and nowhere else."""
        at = self.rng.randint(1, REACHES_OF.get(self.point, REACHES))
        update = {"failpoints": f"{self.point}=kill@{at}"}
        return Role(name, self._settings.model_copy(update=update), *arguments)

    async def die(self, victim: Role) -> None:
        """Wait until it has died; AssertionError where it does not reach its point in time."""
        await victim.killed(WITHIN_SECONDS)
        self.kills += 1


@contextmanager
def reported(killer: Killer) -> Iterator[dict[str, int]]:
    """Add a line with the block's counts to the report, also where the block fails."""
    counted: dict[str, int] = {}
    try:
        yield counted
    finally:
        rest = "".join(f", {number} {name}" for name, number in counted.items())
        say(FAILPOINT_KILLS, f"{killer.point}: {killer.kills} kills{rest}, SEED={SEED}")
