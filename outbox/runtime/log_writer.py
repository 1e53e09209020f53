"""LogWriter: lines for a file descriptor, written by a thread of its own.

Whoever reads our logs may stop reading, and a disk may be full: a pipe that nobody empties blocks
its writer for ever, and with it the event loop that wanted to say something.
"""

import os
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from threading import Condition, Thread

# The pause after each write. To wake the thread for every line costs more than to write it; those
# of two milliseconds together cost somewhat less.
TOGETHER_SECONDS = 0.002
AGAIN_SECONDS = 1.0  # after a write that failed


class LogWriter:
    """`write` never waits; at most `queue_bytes` wait for the descriptor to take them.

    A line that does not fit is dropped and counted. Once lines flow again, `told` makes a line of
    the number that was lost since the last such line. Any thread may write. Weakness: SIGKILL
    takes along what still waits: the lines of a few milliseconds, where the reader is awake.
    """

    def __init__(self, descriptor: int, queue_bytes: int, told: Callable[[int], str]) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._queue_bytes = queue_bytes
        self._told = told
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0  # those that are being written, too
        self._untold = 0
        self._idle = False
        self._changed = Condition()
        self._thread: Thread | None = None

    def write(self, line: str) -> None:
        """Have it written some time soon; with its end of line."""
        data = line.encode(errors="backslashreplace")
        with self._changed:
            if self._waiting_bytes + len(data) > self._queue_bytes:
                self._drop(1)
                return
            self._lines.append(data)
            self._waiting_bytes += len(data)
            self._start()
            if self._idle:
                self._changed.notify_all()

    def flush(self, within_seconds: float) -> bool:
        """Wait so long, at most, until all is written; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_waiting, within_seconds)

    @property
    def _is_waiting(self) -> bool:
        return self._waiting_bytes > 0 or self._untold > 0

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self._untold += lines

    def _start(self) -> None:
        """At the first line: to make a writer costs no thread."""
        if self._thread is None:
            # A daemon, since it may hang in its write when the process ends.
            self._thread = Thread(target=self._run, name="log writer", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            lines, told = self._take()
            lost = self._put([*lines, self._told(told).encode()] if told else lines)
            with self._changed:
                self._waiting_bytes -= sum(map(len, lines))
                if lost:
                    # The line that tells may be among the lost: then its number is told later.
                    self._untold += told
                    self._drop(lost - bool(told))
                self._changed.notify_all()
            time.sleep(AGAIN_SECONDS if lost else TOGETHER_SECONDS)

    def _take(self) -> tuple[list[bytes], int]:
        """All that waits, and how many lines were lost before; not before there is something."""
        with self._changed:
            self._idle = True
            self._changed.wait_for(lambda: self._lines or self._untold)
            self._idle = False
            lines = list(self._lines)
            self._lines.clear()
            told, self._untold = self._untold, 0
            return lines, told

    def _put(self, lines: Sequence[bytes]) -> int:
        """Write them in one go; how many were not written to their end."""
        data, written = memoryview(b"".join(lines)), 0
        try:
            while written < len(data):
                written += self._some(data[written:])
        except OSError:  # a full disk, a reader that is gone; there is nobody to tell
            return sum(end > written for end in accumulate(map(len, lines)))
        return 0

    def _some(self, data: memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # somebody who shares it made it so
            writable = select.poll()
            writable.register(self._descriptor, select.POLLOUT)
            writable.poll()
            return 0
