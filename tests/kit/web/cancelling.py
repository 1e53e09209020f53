"""Cancelling: run a coroutine and cancel it at its k-th await, for every k."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any


class Moment(Enum):
    """When an await is cancelled: as it begins, or once its result is there but not yet taken."""

    BEGUN = "begun"
    OVER = "over"


@dataclass
class Cancelled:
    """Runs `work` in the task that awaits it; `awaits` counts those that suspended.

    At BEGUN the task's own `cancel` is called. At OVER a CancelledError is raised, as in a task
    that is cancelled after it was woken and before it runs.
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
    """Cancel the work at its `at`-th await; return whether there was one.

    The work may catch the cancellation and go on. Any other error of it is raised.
    """
    running = Cancelled(work, at, moment)

    async def run() -> None:
        await running

    task = asyncio.ensure_future(run())
    await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
    return running.awaits >= at
