"""Deadline: ends a block that waits for PostgreSQL, which may never answer.

A COMMIT that waits for a synchronous standby waits for as long as there is none, and a server that
hangs answers nothing at all. No limit of PostgreSQL's own ends the first kind of wait, because
statement_timeout does not count while a COMMIT waits.

At the deadline the task is cancelled, and psycopg then asks the server to cancel, too. A wait for a
lock, or a long statement, is rolled back by that. A COMMIT that waits for a standby is not rolled
back: PostgreSQL warns, stops waiting, and the transaction is committed on this server alone. So
nothing stays open on the server, but the client cannot tell which of the two happened. If the
server does not answer the request to cancel either, psycopg gives up its connection at our next
cancellation.
"""

import asyncio
from types import TracebackType
from typing import Self

from outbox.errors import DependencyDown
from outbox.runtime.cancellation import AGAIN_SECONDS


class Deadline:
    """Raises DependencyDown where the block takes longer than `seconds`; then `expired` is true.

    One Deadline is for one block of one task. A cancellation from outside stays a cancellation.
    `what_then` is added to the text of the error.
    """

    def __init__(self, seconds: float, what_then: str = "") -> None:
        self.expired = False
        self._seconds = seconds
        self._what_then = what_then
        self._cancellations = 0

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._task, self._cancelled_by_others = task, task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._seconds, self._cancel_again)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        for _again in range(self._cancellations):
            self._task.uncancel()
        if not self.expired or kind is None or self._task.cancelling() > self._cancelled_by_others:
            return
        if isinstance(error, asyncio.CancelledError | Exception):
            cause = f"no answer within {self._seconds:g} s{self._what_then}"
            raise DependencyDown("postgres", cause) from error

    def _cancel_again(self) -> None:
        """Cancel again and again: psycopg gives up a deaf connection only at the second time."""
        self.expired = True
        self._cancellations += 1
        self._task.cancel()
        self._timer = self._loop.call_later(AGAIN_SECONDS, self._cancel_again)
