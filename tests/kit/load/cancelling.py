"""Cancelling: run a coroutine and cancel it at its k-th await, for every k."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any


class Moment(Enum):
    """Of an await: as it begins, or when what it waits for has come and was not taken yet."""

    BEGUN = "begun"
    OVER = "over"


@dataclass
class Cancelled:
    """Runs `work` in the task that awaits it; `awaits` counts those that suspended.

    A cancellation is asyncio's own: the task's `cancel` in the first moment; in the second what a
    task meets that is cancelled between its wakeup and its turn.
    """

    work: Callable[[], Awaitable[Any]]
    at: int
    moment: Moment
    awaits: int = 0

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self.work().__await__()
        step = partial(next, steps)
        with suppress(StopIteration):
            while True:
                future = step()
                try:
                    yield from self._wait(future)
                except BaseException as error:
                    step = partial(steps.throw, error)
                else:
                    step = partial(next, steps)

    def _wait(self, future: Any) -> Generator[Any, Any, None]:
        self.awaits += 1
        task = asyncio.current_task()
        assert task is not None
        if self.awaits == self.at and self.moment is Moment.BEGUN:
            task.cancel()
        yield future
        if self.awaits == self.at and self.moment is Moment.OVER:
            raise asyncio.CancelledError


async def cancelled_at(work: Callable[[], Awaitable[Any]], at: int, moment: Moment) -> bool:
    """Whether there was such an await; the work may catch its cancellation and go on."""
    running = Cancelled(work, at, moment)

    async def run() -> None:
        await running

    task = asyncio.ensure_future(run())
    await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
    return running.awaits >= at
