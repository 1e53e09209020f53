"""Peak: how much more memory a piece of work takes than was in use when it began.

Weakness: the memory of the whole process is read, every few milliseconds. So whatever runs beside
the work counts too, and memory that was freed before and is used again does not count.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from resource import getpagesize
from time import monotonic

LOOK_SECONDS = 0.01
STATM = Path("/proc/self/statm")


@dataclass(slots=True)
class Peak:
    """Memory in bytes, and seconds; both are complete when the block has ended."""

    before: int
    highest: int
    seconds: float = 0.0

    @property
    def growth_bytes(self) -> int:
        return self.highest - self.before


@contextmanager
def peak() -> Iterator[Peak]:
    """Watch the memory for the length of the block.

    A thread of its own reads it, so that a busy event loop is seen, too.
    """
    seen, started = Peak(resident_bytes(), 0), monotonic()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            seen.highest = max(seen.highest, resident_bytes())

    looking = threading.Thread(target=look, name="peak", daemon=True)
    looking.start()
    try:
        yield seen
    finally:
        ended.set()
        looking.join()
        seen.seconds = monotonic() - started
        seen.highest = max(seen.highest, resident_bytes())


def resident_bytes() -> int:
    """Return how many bytes this process holds in memory now."""
    return int(STATM.read_text(encoding="ascii").split()[1]) * getpagesize()
