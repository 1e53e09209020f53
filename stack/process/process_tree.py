"""Process tree: the processes below one process, held so that none is mistaken for another."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def parent_of(pid: int) -> int | None:
    """Return the parent's pid, or None if there is no such process (any more)."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The program's name stands in parentheses and may itself hold spaces and parentheses.
    return int(stat.rpartition(")")[2].split()[1])


def descendants(pid: int) -> list[int]:
    """Return every process below `pid` at this moment, parents before children."""
    parents = {each: parent_of(each) for each in all_pids()}
    found = [pid]
    for one in found:
        found.extend(child for child, parent in parents.items() if parent == one)
    return found[1:]


def all_pids() -> list[int]:
    """Return every process on this machine that we may see."""
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


@contextlib.contextmanager
def hold_processes(pids: list[int]) -> Iterator[list[int]]:
    """Yield a file descriptor for each of these processes that is still there.

    A pid may be given to another process later; such a descriptor never is.
    """
    with contextlib.ExitStack() as exits:
        handles = []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                handles.append(os.pidfd_open(pid))
                exits.callback(os.close, handles[-1])
        yield handles


def kill(handle: int) -> None:
    """Send SIGKILL; nothing happens if the process has ended already."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)


async def wait_until_ended(handle: int) -> None:
    """Return when that process has ended."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(handle, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(handle)
