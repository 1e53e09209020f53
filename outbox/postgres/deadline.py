"""Deadline: the end of a block that waits for PostgreSQL, which may never answer.

A COMMIT that waits for a synchronous standby waits for as long as there is none, and a server that
hangs answers nothing at all. No limit of PostgreSQL's own ends the first: statement_timeout does
not count while a COMMIT waits.

At the deadline the task is cancelled, to which psycopg answers by asking the server to cancel, too.
What waits for a lock or a long statement is rolled back there. A COMMIT that waits for a standby is
not: PostgreSQL warns, gives up the waiting, and it is committed on this server alone. So nothing
stays open there, and nobody can tell here which of the two it was. Where the server does not answer
that either, psycopg gives up its connection at our next cancellation.
"""

import asyncio
from types import TracebackType
from typing import Self

from outbox.errors import DependencyDown
from outbox.runtime.cancellation import AGAIN_SECONDS


class Deadline:
    """DependencyDown where the block takes longer than `seconds`; then `expired` is true.

    For one block of one task. A cancellation from outside stays one.
    """

    def __init__(self, seconds: float, what_then: str = "") -> None:
        self.expired = False
        self._seconds = seconds
        self._what_then = what_then
        self._asked = 0

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._task, self._asked_by_others = task, task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._seconds, self._insist)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        for _again in range(self._asked):
            self._task.uncancel()
        if not self.expired or kind is None or self._task.cancelling() > self._asked_by_others:
            return
        if isinstance(error, asyncio.CancelledError | Exception):
            said = f"no answer within {self._seconds:g} s{self._what_then}"
            raise DependencyDown("postgres", said) from error

    def _insist(self) -> None:
        """Again and again: psycopg gives up a deaf connection at the second time only."""
        self.expired = True
        self._asked += 1
        self._task.cancel()
        self._timer = self._loop.call_later(AGAIN_SECONDS, self._insist)
