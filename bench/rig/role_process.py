"""RoleProcess: the relay, or another role, as in production, and watched through /proc."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Self

import psycopg

from outbox.settings import Settings
from outbox.status import read_status

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MIB = 1024 * 1024
START_TIMEOUT_SECONDS = 60.0
DRAIN_TIMEOUT_SECONDS = 1_800.0


class RoleProcess:
    """A process that runs for the length of the block; it is a relay unless `command` says more.

    The block begins once the process has logged `ready`; with None it begins at once, for a relay
    that stands by.
    """

    def __init__(
        self,
        settings: Settings,
        *command: str,
        ready: str | None = "relay leads",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = _make_environment(settings) | dict(environment or {})
        self._command = command or ("-m", "outbox", "relay")
        self._ready = ready.encode() if ready else None
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *self._command, env=self._environment,
            stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        if self._ready:
            await asyncio.wait_for(
                self._wait_until_ready(self._process, self._ready), START_TIMEOUT_SECONDS
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> bytes:
        """End it in order, and return what it wrote to its standard output."""
        process, self._process = self._process, None
        if process is None:
            return b""
        process.terminate()
        output, _ = await process.communicate()
        return output

    async def kill(self) -> None:
        """End it by SIGKILL; it finishes nothing that it has begun."""
        process, self._process = self._process, None
        assert process is not None  # noqa: S101 - inside `async with`
        process.kill()
        await process.communicate()

    @property
    def pid(self) -> int:
        assert self._process is not None  # noqa: S101 - inside `async with`
        return self._process.pid

    def resident_mib(self) -> float:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE_BYTES / MIB

    async def _wait_until_ready(self, process: Process, ready: bytes) -> None:
        assert process.stderr is not None  # noqa: S101 - it was asked for
        while line := await process.stderr.readline():
            if ready in line:
                return
        raise RuntimeError(f"it ended before it said {ready.decode()!r}")


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


async def wait_until_drained(settings: Settings) -> float:
    """Wait until PostgreSQL shows everything as acknowledged; return the seconds that it took."""
    started = perf_counter()
    async with (
        asyncio.timeout(DRAIN_TIMEOUT_SECONDS),
        await psycopg.AsyncConnection.connect(settings.libpq_url(), autocommit=True) as connection,
    ):
        while not await _is_drained(connection):  # noqa: ASYNC110 - another process's progress
            await asyncio.sleep(0.02)
    return perf_counter() - started


async def _is_drained(connection: psycopg.AsyncConnection) -> bool:
    """Return whether nothing is pending.

    The first question is cheap: the relay clears `upto` when its cut is done. Only then the pending
    messages are counted.
    """
    rows = await connection.execute("SELECT published > 0 AND upto IS NULL FROM outbox.relay")
    row = await rows.fetchone()
    return bool(row and row[0]) and (await read_status(connection)).pending == 0


def _make_environment(settings: Settings) -> dict[str, str]:
    return os.environ | {
        "POSTGRES_URL": settings.libpq_url(),
        "KAFKA_URL": settings.kafka_url,
        "AFTERCOMMIT_PUBLISH_TIMEOUT_SECONDS": str(settings.publish_timeout_seconds),
    }
