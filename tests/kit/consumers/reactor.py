"""Reactor: a runner over the table of effects, as a process that a test can kill or stop.

`python -m tests.kit.consumers.reactor name '{"batch": 50}' 2000`: the name of the consumer, options
for Effects, and the milliseconds of a session.
"""

import json
import sys

from consumers.runner.reaction import Reaction
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.runtime.lifecycle import run_role
from tests.kit.consumers.effects import Effects
from tests.kit.verdicts.history import TOPIC

TIMEOUTS = ("session_timeout_milliseconds", "rebalance_timeout_milliseconds")


class Reactor:
    """Runs a reaction until SIGTERM."""

    def __init__(self, settings: Settings, reaction: Reaction) -> None:
        self._settings = settings
        self._reaction = reaction
        self._runner: Runner | None = None

    async def run(self) -> None:
        self._runner = Runner(self._settings, self._reaction)
        await self._runner.run()

    def stop(self) -> None:
        if self._runner is not None:
            self._runner.stop()


def main(name: str, options: str, milliseconds: str) -> None:
    update = dict.fromkeys(TIMEOUTS, int(milliseconds)) | {"receive_wait_milliseconds": 50}
    settings = Settings().model_copy(update=update)
    effects = Effects(settings.libpq_url(), name, TOPIC, **json.loads(options))
    reactor = Reactor(settings, effects)
    run_role(settings, reactor.run, reactor.stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
