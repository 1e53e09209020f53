"""LogWriter: a thread of its own writes the log lines to a file descriptor.

The reader of our logs may stop reading, and a disk may be full. A pipe that nobody empties blocks
its writer for ever; without a thread of its own, that would be the event loop.
"""

import os
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from threading import Condition, Thread

# The pause after each write. Waking the thread for every line costs more than writing the line, so
# the lines of two milliseconds are written together.
TOGETHER_SECONDS = 0.002
AGAIN_SECONDS = 1.0  # after a write that failed


class LogWriter:
    """A queue of log lines; `write` never waits, and any thread may call it.

    At most `queue_bytes` wait for the descriptor to take them. A line that does not fit is dropped
    and counted. Once lines flow again, `report_dropped` makes a line from the number of lines that
    were lost since the last such line. Weakness: SIGKILL loses the lines that still wait; where the
    reader reads, these are the lines of a few milliseconds.
    """

    def __init__(
        self, descriptor: int, queue_bytes: int, report_dropped: Callable[[int], str]
    ) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._queue_bytes = queue_bytes
        self._report_dropped = report_dropped
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0  # with those that are being written
        self._unreported = 0
        self._idle = False
        self._changed = Condition()
        self._thread: Thread | None = None

    def write(self, line: str) -> None:
        """Queue a line, which brings its own line end, or drop it where the queue is full."""
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
        """Wait at most so long until all is written; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_waiting, within_seconds)

    @property
    def _is_waiting(self) -> bool:
        return self._waiting_bytes > 0 or self._unreported > 0

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self._unreported += lines

    def _start(self) -> None:
        """Start the thread at the first line, so that a writer alone costs no thread."""
        if self._thread is None:
            # It is a daemon, since it may hang in its write when the process ends.
            self._thread = Thread(target=self._run, name="log writer", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            lines, dropped = self._take()
            report = [self._report_dropped(dropped).encode()] if dropped else []
            lost = self._write_all([*lines, *report])
            with self._changed:
                self._waiting_bytes -= sum(map(len, lines))
                if lost:
                    # The report may be among the lost lines: its number is then reported later.
                    self._unreported += dropped
                    self._drop(lost - len(report))
                self._changed.notify_all()
            time.sleep(AGAIN_SECONDS if lost else TOGETHER_SECONDS)

    def _take(self) -> tuple[list[bytes], int]:
        """Wait for something to write; return all lines, and how many were dropped unreported."""
        with self._changed:
            self._idle = True
            self._changed.wait_for(lambda: self._lines or self._unreported)
            self._idle = False
            lines = list(self._lines)
            self._lines.clear()
            dropped, self._unreported = self._unreported, 0
            return lines, dropped

    def _write_all(self, lines: Sequence[bytes]) -> int:
        """Write the lines at once; return how many were not written to their end."""
        data, written = memoryview(b"".join(lines)), 0
        try:
            while written < len(data):
                written += self._write_some(data[written:])
        except OSError:  # a full disk, or a reader that is gone: there is nowhere to report it
            return sum(end > written for end in accumulate(map(len, lines)))
        return 0

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # another process that shares the descriptor made it so
            writable = select.poll()
            writable.register(self._descriptor, select.POLLOUT)
            writable.poll()
            return 0
