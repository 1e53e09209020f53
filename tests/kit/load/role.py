"""A role as a process of its own, to be killed, stopped for a while, or watched."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from consumers.settings import Settings

READY_SECONDS = 180.0  # a process starts in one, or in fifty on a machine that is busy
ENDS_SECONDS = 60.0  # after SIGTERM; a busy machine takes longer than the fifteen promised
READY = {
    "relay": "relay leads",
    "commands": "consuming",
    "qdrant": "consuming",
    "neo4j": "consuming",
    "http": "no line says so: it is ready when it answers",
    "writer": "acknowledged",
    "replay": "replaying",
    "rebuild": "rebuild",
    "ledger": "consuming",
    "reactor": "assigned",
    "commander": "assigned",
}
COMMANDS = {
    "relay": ("outbox", "relay"),
    "commands": ("consumers", "commands"),
    "qdrant": ("consumers", "qdrant"),
    "neo4j": ("consumers", "neo4j"),
    "http": ("web", "serve"),
    "writer": ("tests.kit.load.writer",),
    "rebuild": ("consumers", "rebuild"),
    "replay": ("outbox", "replay", "run"),
    "ledger": ("tests.kit.consumers.ledger",),
    "reactor": ("tests.kit.consumers.reactor",),
    "commander": ("tests.kit.load.commander",),
}


class Role:
    """A process `python -m …` of one role; `async with` ends it by SIGTERM, `kill` by SIGKILL.

    `arguments` follow the command. A role that is paused when the block ends is resumed first, so
    that it gets the SIGTERM. Its log is read, unless `standard_error` is another file.
    """

    def __init__(
        self, name: str, settings: Settings, *arguments: str, standard_error: int = PIPE
    ) -> None:
        self.name = name
        self._standard_error = standard_error
        self._arguments = (*COMMANDS[name], *arguments)
        self._environment = environment(settings)
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self.lines: list[str] = []

    async def __aenter__(self) -> Self:
        if not self.running:  # a block may be entered late, to end what runs already
            await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            self.resume()
            await self.terminate()

    async def start(self) -> None:
        self._ready.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *self._arguments,
            env=self._environment, stdin=DEVNULL, stdout=DEVNULL, stderr=self._standard_error,
        )  # fmt: skip
        if self._process.stderr is not None:
            self._reading = asyncio.create_task(self._read(self._process.stderr))

    async def ready(self) -> None:
        """Return once it leads, or consumes; AssertionError where it does not in time."""
        try:
            await asyncio.wait_for(self._ready.wait(), READY_SECONDS)
        except TimeoutError:
            raise AssertionError(f"not ready: {self._last_words()}") from None

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        self._process = None
        await self._read_rest()

    async def killed(self, within_seconds: float) -> None:
        """Return once a SIGKILL that we did not send has ended it; AssertionError otherwise."""
        assert self._process is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._process.wait()
        assert self._process.returncode == -signal.SIGKILL, self._last_words()
        self._process = None
        await self._read_rest()

    async def ended(self, within_seconds: float) -> int:
        """Return its exit code once it has ended by itself; TimeoutError otherwise."""
        assert self._process is not None
        code = await asyncio.wait_for(self._process.wait(), within_seconds)
        self._process = None
        await self._read_rest()
        return code

    async def terminate(self) -> None:
        """Return once SIGTERM has ended it; TimeoutError where it does not."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), ENDS_SECONDS)
        except TimeoutError:
            await self.kill()
            raise
        self._process = None
        await self._read_rest()

    def pause(self) -> None:
        """Stop it by SIGSTOP; its connections stay as they are."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    @property
    def running(self) -> bool:
        """Whether it was started and neither `kill` nor another method here has seen it end."""
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def paused(self) -> bool:
        """Return whether it is stopped by a signal, no matter whose."""
        return self._status("State").startswith("T")

    def rss_bytes(self) -> int:
        """Return the size of its memory that is in use."""
        return int(self._status("VmRSS").split()[0]) * 1024

    def virtual_bytes(self) -> int:
        """Return the size of its address space, used or not."""
        return int(self._status("VmSize").split()[0]) * 1024

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of its log with this event."""
        lines = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def _last_words(self) -> str:
        code = self._process.returncode if self._process else "none"
        return f"{self.name}, exit code {code}:\n" + "".join(self.lines[-20:])

    def _status(self, name: str) -> str:
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return line.partition(":")[2].strip()
        raise LookupError(name)

    async def _read(self, log: asyncio.StreamReader) -> None:
        async for raw in log:
            line = raw.decode(errors="replace")
            self.lines.append(line)
            if READY[self.name] in line:
                self._ready.set()

    async def _read_rest(self) -> None:
        if self._reading is not None:
            await self._reading


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment from which a role reads these settings."""
    return os.environ | {
        "POSTGRES_URL": settings.libpq_url(),
        "KAFKA_URL": settings.kafka_url,
        "QDRANT_URL": settings.qdrant_url,
        "NEO4J_URL": settings.neo4j_url,
        "NEO4J_USER": settings.neo4j_user,
        "NEO4J_PASSWORD": settings.neo4j_password.get_secret_value(),
        "NEO4J_DATABASE": settings.neo4j_database,
        "AFTERCOMMIT_NEO4J_ANSWER_SECONDS": str(settings.neo4j_answer_seconds),
        "FAILPOINTS": settings.failpoints,
        "AFTERCOMMIT_LEASE_SECONDS": str(settings.lease_seconds),
        "AFTERCOMMIT_PUBLISH_TIMEOUT_SECONDS": str(settings.publish_timeout_seconds),
        "AFTERCOMMIT_PAGE_MESSAGES": str(settings.page_messages),
        "AFTERCOMMIT_RETENTION_DAYS": str(settings.retention_days),
        "AFTERCOMMIT_HTTP_PORT": str(settings.http_port),
        "AFTERCOMMIT_DRAIN_SECONDS": str(settings.drain_seconds),
        "AFTERCOMMIT_SESSION_TIMEOUT_MILLISECONDS": "4000",
        "AFTERCOMMIT_REBALANCE_TIMEOUT_MILLISECONDS": "4000",
        "AFTERCOMMIT_DRIFT_PATIENCE_SECONDS": str(settings.drift_patience_seconds),
        "AFTERCOMMIT_LOG_FORMAT": "json",
        "AFTERCOMMIT_LOG_QUEUE_BYTES": str(settings.log_queue_bytes),
    }
