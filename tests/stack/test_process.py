"""A child process starts, is proved ready, and never outlives what started it."""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from stack.errors import PartFailed, PortTaken
from stack.process import process_tree
from stack.process.probe import Probe, answer_within
from stack.process.process import Process, Program
from stack.settings import StackSettings

pytestmark = pytest.mark.anyio

READY = "import sys, time, signal; print('ready', flush=True); "
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY
WITH_CHILD = (
    "import subprocess, sys; "
    "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
    " start_new_session=True); print('child', p.pid, flush=True); "
)
FOREVER = "time.sleep(600)"


def program(folder: Path, code: str) -> Program:
    argv = (sys.executable, "-c", code)
    return Program(name="child", argv=argv, folder=folder, log=folder / "child.log")


def says(folder: Path, word: str) -> Probe[str]:
    async def ask() -> str:
        text = (folder / "child.log").read_text()
        if word not in text:
            raise OSError(f"it has not said {word}")
        return text

    return Probe(ask)


async def start(folder: Path, code: str, settings: StackSettings) -> tuple[Process, str]:
    """Start a child that is ready after this code and then stays; return it and what it said."""
    return await Process.start(program(folder, code + FOREVER), says(folder, "ready"), settings)


def alive(pid: int) -> bool:
    return process_tree.parent_of(pid) is not None


async def test_a_started_process_has_answered_and_is_gone_after_stop(
    folder: Path, settings: StackSettings
) -> None:
    process, answer = await start(folder, READY, settings)
    assert (answer, process.running) == ("ready\n", True)
    await process.stop()
    assert not alive(process.pid)


async def test_it_has_a_session_of_its_own(folder: Path, settings: StackSettings) -> None:
    process, _ = await start(folder, READY, settings)
    assert os.getsid(process.pid) == process.pid
    await process.stop()


async def test_one_that_ignores_the_stop_signal_is_killed(
    folder: Path, settings: StackSettings
) -> None:
    short = settings.model_copy(update={"stop_timeout_seconds": 0.2})
    process, _ = await start(folder, STUBBORN, short)
    await process.stop()
    assert not alive(process.pid)


async def test_stop_is_not_interrupted_by_cancellations(
    folder: Path, settings: StackSettings
) -> None:
    short = settings.model_copy(update={"stop_timeout_seconds": 0.5})
    process, _ = await start(folder, STUBBORN, short)
    stopping = asyncio.create_task(process.stop())
    for _ in range(3):
        await asyncio.sleep(0)
        stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not alive(process.pid)


async def test_kill_reaches_descendants_in_other_sessions(
    folder: Path, settings: StackSettings
) -> None:
    process, answer = await start(folder, WITH_CHILD + READY, settings)
    child = int(answer.split()[1])
    assert alive(child)
    await process.kill()
    with process_tree.hold_processes(
        [child]
    ) as handles:  # killed; at most still to be reaped by its new parent
        await asyncio.wait_for(asyncio.gather(*map(process_tree.wait_until_ended, handles)), 60)
    assert not process.running


async def test_an_early_end_shows_the_end_of_the_log(folder: Path, settings: StackSettings) -> None:
    broken = program(folder, "raise SystemExit('no space for the frobnicator')")
    with pytest.raises(PartFailed, match=r"exit code 1[^$]*no space for the frobnicator"):
        await Process.start(broken, says(folder, "ready"), settings)


async def test_one_that_is_never_ready_is_killed_at_the_deadline(
    folder: Path, settings: StackSettings
) -> None:
    short = settings.model_copy(update={"ready_timeout_seconds": 1.0})
    code = "import os, time; print(os.getpid(), flush=True); " + FOREVER
    with pytest.raises(PartFailed, match="not ready in time"):
        await Process.start(program(folder, code), says(folder, "ready"), short)
    assert not alive(int((folder / "child.log").read_text()))


async def test_a_taken_port_is_told_apart(folder: Path, settings: StackSettings) -> None:
    code = "import time; print('could not bind: Address already in use', flush=True); " + FOREVER
    with pytest.raises(PortTaken):
        await Process.start(program(folder, code), says(folder, "ready"), settings)


async def test_a_cancelled_start_leaves_nothing(folder: Path, settings: StackSettings) -> None:
    code = "import os, time; print(os.getpid(), 'begun', flush=True); " + FOREVER
    start = asyncio.create_task(
        Process.start(program(folder, code), says(folder, "ready"), settings)
    )
    answer = await answer_within(says(folder, "begun"), 60, "the child")
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not alive(int(answer.split()[0]))


async def test_a_child_gets_none_of_our_secrets(
    folder: Path, settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", "hunter2")
    code = "import os; print(sorted(os.environ)); " + READY + FOREVER
    process, answer = await Process.start(program(folder, code), says(folder, "ready"), settings)
    await process.stop()
    assert "PATH" in answer
    assert "NEO4J" not in answer


def test_a_start_outside_the_main_thread_is_refused(folder: Path, settings: StackSettings) -> None:
    errors: list[BaseException] = []

    def start() -> None:
        try:
            asyncio.run(Process.run(program(folder, "pass"), settings))
        except PartFailed as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(10)
    assert "main thread" in str(errors[0])


def test_death_signals_reach_a_process(folder: Path) -> None:
    assert program(folder, "pass").command_line()[5] == str(int(signal.SIGKILL))
