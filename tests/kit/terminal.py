"""A terminal of a given width, and what a program shows there."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]


def shown_on_terminal(command: Sequence[str], columns: int, **variables: str) -> str:
    """Return all that it writes to both streams; AssertionError where its exit code is not 0."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment = inherited | {"TERM": "xterm", "NO_COLOR": "1"} | variables
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=ROOT
    ) as process:
        os.close(theirs)
        shown = _all(ours)
    os.close(ours)
    assert process.returncode == 0, shown
    return shown


def _all(descriptor: int) -> str:
    pieces = []
    with suppress(OSError):  # EIO: the last one that wrote has ended
        while piece := os.read(descriptor, 65_536):
            pieces.append(piece)
    return b"".join(pieces).decode().replace("\r\n", "\n")
