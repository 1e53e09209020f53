"""The whole machine comes up together and leaves nothing behind, however it ends."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stack.errors import StackError
from stack.machine import machine
from stack.process import process_tree
from stack.settings import StackSettings

pytestmark = pytest.mark.anyio


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if process_tree.parent_of(pid) is not None and not zombie(pid)]


def zombie(pid: int) -> bool:
    """Return whether it has ended, and only its adopter has still to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


Pids = Callable[[], list[int]]


@pytest.fixture
def ours() -> Pids:
    """Return what this test has started, without servers that tests share, and their children."""
    before = children()
    return lambda: [
        pid for child in children() - before for pid in (child, *process_tree.descendants(child))
    ]


def children() -> set[int]:
    return {
        pid
        for pid in process_tree.descendants(os.getpid())
        if process_tree.parent_of(pid) == os.getpid()
    }


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the deadline"
        time.sleep(0.02)


async def test_four_parts_answer_and_nothing_is_left(settings: StackSettings, ours: Pids) -> None:
    async with machine(settings=settings) as running:
        pids = ours()
        assert len(running.providers()) == 4
        assert set(running.environment()) == {
            "POSTGRES_URL",
            "KAFKA_URL",
            "NEO4J_URL",
            "NEO4J_USER",
            "NEO4J_PASSWORD",
            "NEO4J_DATABASE",
            "QDRANT_URL",
        }
        assert running.graph.password.get_secret_value() not in repr(running)
        assert running.folder.exists()
    assert alive(pids) == []
    assert not running.folder.exists()


async def test_a_cancelled_block_leaves_nothing(settings: StackSettings, ours: Pids) -> None:
    up = asyncio.Event()
    seen: list[Path] = []

    async def stay() -> None:
        async with machine(settings=settings) as running:
            seen.append(running.folder)
            up.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stay())
    await asyncio.wait_for(up.wait(), 30)
    pids = ours()
    assert len(pids) > 3
    for _ in range(3):  # a person presses Ctrl-C again and again
        task.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert alive(pids) == []
    assert not seen[0].exists()


async def test_one_part_that_cannot_start_undoes_the_others(
    folder: Path, settings: StackSettings, ours: Pids
) -> None:
    wrong = settings.model_copy(update={"kafka_url": "127.0.0.1:1", "ready_timeout_seconds": 2.0})
    with pytest.raises(StackError, match="KAFKA_URL"):
        async with machine(folder, settings=wrong):
            pass
    assert alive(ours()) == []


@contextmanager
def up(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run `python -m stack up --json`, and yield what it printed."""
    with subprocess.Popen(
        [sys.executable, "-m", "stack", "up", "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def test_ctrl_c_even_twice_ends_the_command_in_good_order() -> None:
    with up() as (process, said):
        pids = process_tree.descendants(process.pid)
        assert set(said["pids"].values()) <= set(pids)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert alive(pids) == []
        assert not Path(said["folder"]).exists()


def test_a_kill_of_the_command_takes_its_servers_along(folder: Path) -> None:
    with up("--data", str(folder / "data")) as (process, _):
        pids = process_tree.descendants(process.pid)
        assert len(pids) > 3
        process.kill()
        process.wait(5)
        until(lambda: alive(pids) == [], 5)


def test_a_signal_during_the_start_leaves_nothing(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "stack", "up"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(folder)},
        cwd=Path(__file__).parents[2],
    ) as process:
        until(lambda: len(process_tree.descendants(process.pid)) >= 3, 20)
        pids = process_tree.descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
        assert alive(pids) == []
        assert list(folder.iterdir()) == []
