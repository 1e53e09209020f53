"""Replayer: what it tries again, and what ends it."""

import pytest

from outbox.errors import DependencyDown, Halted, InvalidInput, SchemaBehind
from outbox.replay.replayer import Replayer
from outbox.settings import Settings


class Failing(Replayer):
    """Fails with each of `errors` in turn, then has nothing left to do."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__(Settings(), 1)
        self.errors = list(errors)

    async def _connect_and_replay(self) -> bool:
        if self.errors:
            raise self.errors.pop(0)
        return True

    async def _pause(self, seconds: float) -> None:
        del seconds


@pytest.mark.anyio
async def test_a_replay_goes_on_when_it_can() -> None:
    replayer = Failing(DependencyDown("kafka", "away"), DependencyDown("postgres", "away"))
    await replayer.run()
    assert replayer.errors == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error",
    [Halted("it is a copy"), InvalidInput("replay", "id", "gone"), SchemaBehind("one is missing")],
)
async def test_what_an_operator_must_see_ends_it_at_once(error: Exception) -> None:
    replayer = Failing(error, error)
    with pytest.raises(type(error)):
        await replayer.run()
    assert replayer.errors == [error]
