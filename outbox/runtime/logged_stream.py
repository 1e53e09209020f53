"""LoggedStream: standard error where logs are JSON; each line written to it is logged."""

import io
from collections.abc import Callable
from threading import Lock
from typing import Any, TextIO


class LoggedStream(io.TextIOBase):
    """Stands in for `sys.stderr`, so that a library's `print` or a traceback breaks no JSON reader.

    A line is handed over once its end is written, or at `flush_rest`. Any thread may write.
    Weakness: what a library in C writes to the descriptor itself does not pass through here.
    """

    def __init__(self, original: TextIO, hand_over: Callable[[str], None]) -> None:
        super().__init__()
        self.original = original
        self.hand_over = hand_over
        self._begun = ""
        self._lock = Lock()

    @property
    def encoding(self) -> str:  # type: ignore[override] # declared writable; nobody writes it
        return self.original.encoding

    @property
    def errors(self) -> str:  # type: ignore[override] # declared writable, too
        return "backslashreplace"

    @property
    def buffer(self) -> Any:
        return self.original.buffer

    def fileno(self) -> int:
        return self.original.fileno()

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
        for line in filter(str.strip, lines):
            self.hand_over(line)
        return len(text)

    def flush_rest(self) -> None:
        """Hand over the line that was begun, if there is one."""
        self.write("\n")
