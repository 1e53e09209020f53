"""Pruner: the leading relay prunes beside publishing, and never delays it.

It has a task and a connection of its own. A failure is logged, and tried again at the next check.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

import psycopg
import structlog

from outbox.errors import OutboxError, translate_errors
from outbox.retention.retention import Retention
from outbox.runtime.cancellation import wait_until_ended
from outbox.settings import Settings

log = structlog.get_logger()

Connect = Callable[[Settings], Awaitable[psycopg.AsyncConnection[Any]]]


class Pruner:
    """Prunes at once, and then every `prune_check_seconds`, until the block ends.

    With `prune_check_seconds` 0 it never prunes. Weakness: after an unexpected error, which is a
    bug, it prunes no more until the next block.
    """

    def __init__(self, settings: Settings, connect: Connect) -> None:
        self._settings = settings
        self._connect = connect
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._settings.prune_check_seconds:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(_log_unexpected_error)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the prune; its transaction is rolled back, even where PostgreSQL does not answer."""
        if self._task is not None:
            await wait_until_ended(self._task, patience_seconds=0)

    async def _run(self) -> None:
        while True:
            await self._check()
            await asyncio.sleep(self._settings.prune_check_seconds)

    async def _check(self) -> None:
        try:
            with translate_errors():
                async with await self._connect(self._settings) as connection:
                    pruned = await Retention(connection, self._settings).prune()
        except (OutboxError, psycopg.Error) as error:  # no database error may end a relay
            log.warning("not pruned", error=str(error), kind=type(error).__name__)
        else:
            if pruned.left:
                log.warning("days past retention are left", days=pruned.left)


def _log_unexpected_error(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("pruning ended", error=str(error), kind=type(error).__name__)
