"""Process: a child process that is started, proved ready, stopped, and never left behind."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog

from stack.errors import PartFailed, PortTaken
from stack.process import parent_death, process_tree
from stack.process.account import Account
from stack.process.probe import PAUSE_SECONDS, Probe
from stack.process.shield import run_to_end
from stack.settings import StackSettings

log = structlog.get_logger(__name__)

T = TypeVar("T")

TAIL_LINES = 20
# A child inherits only what programs need to run at all, and so none of our secrets.
INHERITED = ("PATH", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
# What PostgreSQL and ArcadeDB write if a port is in use. (ArcadeDB then lives on and listens
# nowhere.)
PORT_TAKEN = ("Address already in use", "busy, trying the next available")


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run, by which account and in which folder.

    Both outputs are appended to `log`. The kernel sends `death_signal` to it when we die.
    `holds_stdin` gives it a pipe that closes with us; otherwise its input is empty.
    """

    name: str
    argv: tuple[str, ...]
    folder: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    holds_stdin: bool = False

    def command_line(self) -> tuple[str, ...]:
        """Return the command line of a process that dies when we die (see parent_death.py)."""
        uid, gid = (self.account.uid, self.account.gid) if self.account else (-1, -1)
        numbers = (os.getpid(), int(self.death_signal), uid, gid)
        python = (sys.executable, "-I", "-S", parent_death.__file__)
        return (*python, *(str(number) for number in numbers), *self.argv)

    def variables(self) -> dict[str, str]:
        """Return the child's whole environment: in English, since we look for words in its log."""
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return {**inherited, "LC_ALL": "C.UTF-8", **self.environment}


class Process:
    """A running program. The caller that starts one stops it; a start that fails leaves nothing.

    The child has a session of its own: a terminal's Ctrl-C reaches only us, and we stop the child.
    """

    def __init__(
        self, program: Program, child: asyncio.subprocess.Process, settings: StackSettings
    ) -> None:
        self.program = program
        self._child = child
        self._settings = settings
        self._log_start = program.log.stat().st_size

    @classmethod
    async def start(
        cls, program: Program, probe: Probe[T], settings: StackSettings
    ) -> tuple["Process", T]:
        """Start it, wait for the first answer of `probe`, and return the process and that answer.

        PartFailed is raised, with the end of the log, if it ends first or has no answer within
        `ready_timeout_seconds`; PortTaken if the log says that a port is in use.
        """
        process = cls(program, await spawn(program), settings)
        try:
            answer = await process._wait_until_ready(probe)
        except BaseException:
            await process.kill()
            raise
        log.info("started", part=program.name, pid=process.pid)
        return process, answer

    @classmethod
    async def run(cls, program: Program, settings: StackSettings) -> None:
        """Run it to its end; PartFailed if it fails or needs more than `ready_timeout_seconds`."""
        process = cls(program, await spawn(program), settings)
        try:
            async with asyncio.timeout(settings.ready_timeout_seconds):
                code = await process._child.wait()
        except TimeoutError:
            raise process._describe_failure("did not end in time") from None
        finally:
            await process.kill()
        if code != 0:
            raise process._describe_failure(f"failed with exit code {code}")

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.returncode is None

    def output(self) -> str:
        """Return what it has written since this start."""
        with self.program.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode("utf-8", errors="replace")

    async def stop(self) -> None:
        """Ask it to stop, kill it after `stop_timeout_seconds`, and reap it. Not cancellable."""
        await run_to_end(self._stop())

    async def kill(self) -> None:
        """Kill it and all its descendants by SIGKILL, and reap them.

        It is not cancellable, and may be repeated.
        """
        await run_to_end(self._kill())

    async def _stop(self) -> None:
        if self.running:
            self._child.send_signal(self.program.stop_signal)
        try:
            async with asyncio.timeout(self._settings.stop_timeout_seconds):
                await self._child.wait()
        except TimeoutError:
            log.warning("killed_after_stop_timeout", part=self.program.name, pid=self.pid)
            await self._kill()
        log.info("stopped", part=self.program.name, pid=self.pid)

    async def _kill(self) -> None:
        if not self.running:
            return
        # PostgreSQL's backends have sessions of their own, so a process group is not enough.
        with process_tree.hold_processes(process_tree.descendants(self.pid)) as handles:
            self._child.kill()
            for handle in handles:
                process_tree.kill(handle)
            await asyncio.gather(self._child.wait(), *map(process_tree.wait_until_ended, handles))

    async def _wait_until_ready(self, probe: Probe[T]) -> T:
        last: Exception | None = None
        try:
            async with asyncio.timeout(self._settings.ready_timeout_seconds):
                while isinstance(answer := await probe.attempt(), Exception):
                    last = answer
                    self._require_progress()
                    await asyncio.sleep(PAUSE_SECONDS)
        except TimeoutError:
            raise self._describe_failure("was not ready in time") from last
        self._require_progress()
        return answer

    def _require_progress(self) -> None:
        if any(words in self.output() for words in PORT_TAKEN):
            raise PortTaken(f"{self.program.name}: a port was taken by another program")
        if not self.running:
            raise self._describe_failure(f"ended early with exit code {self._child.returncode}")

    def _describe_failure(self, what: str) -> PartFailed:
        tail = "\n".join(self.output().splitlines()[-TAIL_LINES:])
        return PartFailed(f"{self.program.name} {what}; the end of its log:\n{tail}")


async def spawn(program: Program) -> asyncio.subprocess.Process:
    """Fork and execute it in a session of its own; it dies when our main thread dies.

    PartFailed is raised in any other thread.
    """
    if threading.current_thread() is not threading.main_thread():
        # The kernel would end the child together with this thread, at some later moment.
        raise PartFailed(f"{program.name} must be started from the main thread")
    program.log.parent.mkdir(parents=True, exist_ok=True)
    pipe = asyncio.subprocess.PIPE if program.holds_stdin else asyncio.subprocess.DEVNULL
    with program.log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *program.command_line(),
            cwd=program.folder,
            env=program.variables(),
            stdin=pipe,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
