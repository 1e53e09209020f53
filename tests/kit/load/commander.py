"""Commander: a command consumer over the writer's table, as a process that a test can kill.

`python -m tests.kit.load.commander name 1000`; the number is the session timeout in milliseconds.
"""

import sys
from collections.abc import Sequence
from functools import partial

from consumers.settings import Settings
from outbox.errors import AlreadyHandled
from outbox.runtime.lifecycle import run_role
from outbox.write.database import Database
from schemas.envelope import Envelope
from tests.kit.consumers.reactor import TIMEOUTS, Reactor
from tests.kit.load.writer import CHANGE
from tests.kit.verdicts.history import TOPIC, Happened


class Orders:
    """Changes the row of a message's key, once for each message: its receipt sees to that."""

    batch_messages = 1
    parks_keys = False
    topics = (TOPIC,)

    def __init__(self, name: str, database: Database) -> None:
        self.name = name
        self._database = database

    async def prepare(self) -> None:
        """Do nothing: the test has made the table."""

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            try:
                await self._database.retry_on_contention(partial(self._change, envelope))
            except AlreadyHandled:
                continue

    async def _change(self, envelope: Envelope) -> None:
        thing = f"{self.name}/{envelope.key}"
        async with self._database.unit_of_work("change", envelope) as uow:
            await uow.connection.execute(CHANGE, {"id": thing})
            uow.publish(Happened(thing=thing))
            await uow.commit()


class Commander:
    """The consumer as a role, which runs until SIGTERM."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._reactor: Reactor | None = None

    async def run(self) -> None:
        async with Database(self._settings, self._name) as database:
            self._reactor = Reactor(self._settings, Orders(self._name, database))
            await self._reactor.run()

    def stop(self) -> None:
        if self._reactor is not None:
            self._reactor.stop()


def main(name: str, milliseconds: str) -> None:
    update = dict.fromkeys(TIMEOUTS, int(milliseconds)) | {"receive_wait_milliseconds": 50}
    settings = Settings().model_copy(update=update)
    commander = Commander(settings, name)
    run_role(settings, commander.run, commander.stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
