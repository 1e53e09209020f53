"""The folder of a run: a temporary one, or one that an operator chose."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from stack.errors import FolderUnusable

log = structlog.get_logger(__name__)

PREFIX = "aftercommit-"
REMOVALS = 20
AGAIN_SECONDS = 0.1


@contextmanager
def run_folder(chosen: Path | None, *, keep: bool) -> Iterator[Path]:
    """Hold a folder for the length of the block.

    That is the chosen folder, made if missing and never removed; else a temporary one, which is
    removed at the end unless `keep`. FolderUnusable is raised if another run uses the folder.
    """
    folder = make_folder(chosen)
    try:
        with lock_folder(folder):
            yield folder
    finally:
        if chosen is None and not keep:
            _remove(folder)
        else:
            log.info("folder_kept", folder=str(folder))


def make_folder(chosen: Path | None) -> Path:
    """Make the folder if it is missing, and return its absolute path."""
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        return chosen.resolve()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    if os.geteuid() == 0:
        # PostgreSQL runs as another account then: it may pass through, and list nothing.
        folder.chmod(0o711)
    return folder


def _remove(folder: Path) -> None:
    """Remove the folder; a process that is being killed may still write to it for a moment."""
    for _ in range(REMOVALS):
        with suppress(OSError):
            shutil.rmtree(folder)
            return
        time.sleep(AGAIN_SECONDS)
    shutil.rmtree(folder)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the folder for this run; the kernel releases the lock when we die."""
    with (folder / "lock").open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderUnusable(f"another run uses {folder}") from None
        yield
