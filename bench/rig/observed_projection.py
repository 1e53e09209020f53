"""A projection that notes when it has applied each change.

It runs as a process of its own: `python -m bench.rig.observed_projection NAME`, where NAME is
`qdrant` or `neo4j`. On SIGTERM it writes its notes as JSON to its standard output: the time of each
`key version`, by the machine's monotonic clock, which all processes share. A note is taken when
`apply` has returned, which is when the store shows the change.
"""

import sys
from collections.abc import Sequence
from time import monotonic

from consumers.installed import PROJECTIONS
from consumers.projections.projection import ProjectionReaction
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.runtime.lifecycle import run_role
from outbox.runtime.output import say_json
from schemas.envelope import Envelope

APPLIED: dict[str, float] = {}


class ObservedReaction(ProjectionReaction):
    """A ProjectionReaction that notes what each call has applied."""

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        await super().apply(envelopes)
        now = monotonic()
        for envelope in envelopes:
            APPLIED.setdefault(f"{envelope.key} {envelope.sequence}", now)


class ObservedRole:
    """The role that `python -m consumers NAME` runs, with an ObservedReaction."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._runner: Runner | None = None

    async def run(self) -> None:
        async with PROJECTIONS[self._name](self._settings) as projection:
            self._runner = Runner(self._settings, ObservedReaction(projection))
            await self._runner.run()

    def stop(self) -> None:
        if self._runner is not None:
            self._runner.stop()


if __name__ == "__main__":
    settings = Settings()
    role = ObservedRole(settings, sys.argv[1])
    run_role(settings, role.run, role.stop)
    say_json(APPLIED)
